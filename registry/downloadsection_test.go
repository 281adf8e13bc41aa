package registry

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/partial"
)

// section makes a file with a section for large, between other bytes.
func section(t *testing.T) (*partial.Section, *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	d := descriptor(large)
	r := &partial.Section{In: f, At: 1000 + partial.RecordSize, Blob: d.Digest, Size: d.Size}
	if err := errors.Join(r.Begin(), f.Truncate(r.At+r.Size)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("before"), 1000-6); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("behind"), r.At+r.Size); err != nil {
		t.Fatal(err)
	}
	return r, f
}

// What has been read is what the section has, also where the registry sends other bytes
// for it later: it has done with ranges, and sends the whole blob for one.
func TestSectionHasWhatWasRead(t *testing.T) {
	later := 3<<20 + partial.Block
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(large[:later]+strings.Repeat("x", 1<<20)+large[later+1<<20:]))
	})
	in, file := section(t)
	f, err := in.Open(in.Blob, in.Size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Writer(int64(later)).Write([]byte(large[later : later+1<<20])); err != nil { // of a run before
		t.Fatal(err)
	}
	k, err := newClient(t, Options{}).Download(t.Context(), s.ref(t, ""), descriptor(large), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(k)
	if err != nil || string(data) != large || !k.InSection() {
		t.Errorf("%d bytes, in the section: %v, %v", len(data), k.InSection(), err)
	}
	k.Close()
	got, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	before, blob, behind := got[:1000], got[in.At:in.At+in.Size], got[in.At+in.Size:]
	if !strings.HasSuffix(string(before), "before") || string(blob) != large || string(behind) != "behind" {
		t.Errorf("in the file: %q, what was read: %v, %q", before[994:], string(blob) == large, behind)
	}
	if n := in.Found(); n != in.Size {
		t.Errorf("%d bytes are whole", n)
	}
	if err := k.Distrust(); err != nil || in.Found() != 0 {
		t.Errorf("of what came damaged %d bytes are whole, %v", in.Found(), err)
	}
}

// full is a disk that takes no more.
type full struct{ *os.File }

func (f full) WriteAt(p []byte, off int64) (int, error) {
	if off > 2<<20 {
		return 0, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return f.File.WriteAt(p, off)
}

// A blob that has a section can be nowhere else: it is not read past a disk that takes
// no more.
func TestSectionIsFull(t *testing.T) {
	s := newScript(t, serveLarge)
	in, file := section(t)
	in.In = full{file}
	k, err := newClient(t, Options{}).Download(t.Context(), s.ref(t, ""), descriptor(large), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if n, err := io.Copy(io.Discard, k); !errors.Is(err, syscall.ENOSPC) || n >= in.Size {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n := in.Found(); n == 0 || n > 3<<20 {
		t.Errorf("%d bytes are whole", n)
	}
}

// A blob that is small, or has no section, is downloaded by one connection into no file.
func TestNotInSection(t *testing.T) {
	s := newScript(t, serveLarge)
	in, _ := section(t)
	in.Size++
	k, err := newClient(t, Options{}).Download(t.Context(), s.ref(t, ""), descriptor(large), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if data, err := io.ReadAll(k); err != nil || string(data) != large || k.InSection() {
		t.Errorf("%d bytes, in the section: %v, %v", len(data), k.InSection(), err)
	}
}
