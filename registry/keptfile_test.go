package registry

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/partial"
)

// readFile reads a blob, and then what its file has.
func readFile(t *testing.T, k *Kept) (read, file string) {
	t.Helper()
	data, err := io.ReadAll(k)
	if err != nil {
		t.Fatal(err)
	}
	f := k.File()
	if f == nil {
		return string(data), ""
	}
	defer f.Close()
	k.Close()
	got := make([]byte, len(large))
	if _, err := io.ReadFull(f, got); err != nil {
		t.Fatal(err)
	}
	return string(data), string(got)
}

// What has been read is what the file has, also where the registry sends other bytes
// for it later: it has done with ranges, and sends the whole blob for one.
func TestFileIsWhatWasRead(t *testing.T) {
	later := 3<<20 + partial.Block
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(large[:later]+strings.Repeat("x", 1<<20)+large[later+1<<20:]))
	})
	in := folder(t)
	f, err := in.Open(descriptor(large).Digest, int64(len(large)))
	if err != nil {
		t.Fatal(err)
	}
	if mine, err := f.Own(); !mine || err != nil {
		t.Fatal(mine, err)
	}
	if _, err := f.Writer(int64(later)).Write([]byte(large[later : later+1<<20])); err != nil { // of a run before
		t.Fatal(err)
	}
	f.Close()
	k, err := newClient(t, Options{}).Keep(t.Context(), s.ref(t, ""), descriptor(large), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if read, file := readFile(t, k); read != large || file != large {
		t.Errorf("read what it should be: %v; in the file: %v", read == large, file == large)
	}
}

// A file that another process may write to is nobody's to copy later.
func TestFileOfAnother(t *testing.T) {
	s := newScript(t, serveLarge)
	in, c := folder(t), newClient(t, Options{})
	keepAll(t, c, s.ref(t, ""), in)
	open := func() *Kept {
		k, err := c.Keep(t.Context(), s.ref(t, ""), descriptor(large), in, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.Close() })
		return k
	}
	one := open()
	two := open()
	if !one.InFile() || two.InFile() {
		t.Errorf("in a file: %v, and for another one: %v", one.InFile(), two.InFile())
	}
	if read, file := readFile(t, two); read != large || file != "" {
		t.Errorf("read what it should be: %v; and there is a file: %v", read == large, file != "")
	}
	if read, file := readFile(t, one); read != large || file != large {
		t.Errorf("read what it should be: %v; in the file: %v", read == large, file == large)
	}
	if !open().InFile() {
		t.Error("it is not in a file for the next one")
	}
}
