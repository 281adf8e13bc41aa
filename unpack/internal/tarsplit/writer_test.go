package tarsplit

import (
	stdtar "archive/tar"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/internal/testkit"
)

// record has a Writer record a tar. Files keep the content of the entries that keep names.
func record(t *testing.T, raw []byte, keep func(name string) bool) []byte {
	t.Helper()
	var record bytes.Buffer
	w := NewWriter(&record, nil)
	r := tar.NewReader(io.TeeReader(bytes.NewReader(raw), writerFunc(w.Collect)))
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = w.Begin(h)
		}
		if err != nil {
			t.Fatal(err)
		}
		content := io.Reader(r)
		if keep(h.Name) {
			content = w.Keep(content, true)
		} else {
			content = w.Drop(content)
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			t.Fatal(err)
		}
		w.raw = w.raw[:0] // of the content, which Collect need not have
		if err := w.End(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Tail(bytes.NewReader(nil)), w.Close(), w.Err()); err != nil {
		t.Fatal(err)
	}
	return record.Bytes()
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

// The record is the one of tar-split itself, if files keep all content. Where they do not,
// the record has the content, and the tar can still be made again of it.
func TestWriter(t *testing.T) {
	files := []testkit.File{
		{Header: stdtar.Header{Name: "d/", Typeflag: stdtar.TypeDir}}, testkit.Text("d/a", "content"), testkit.Text("empty", ""),
		{Header: stdtar.Header{Name: "s", Typeflag: stdtar.TypeSymlink, Linkname: "d"}}, testkit.Text("a \"quoted\" <name>", "more"),
		testkit.Text("big", string(testkit.Content(100<<10))),
	}
	raw := testkit.Tar(files...)
	var want bytes.Buffer
	same, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(raw), storage.NewJSONPacker(&want), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, same); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := record(t, raw, func(string) bool { return true }); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("got\n%.2000s\nwant\n%.2000s", got, &want)
	}
	without := record(t, raw, func(name string) bool { return name != "big" })
	kept := storage.NewBufferFileGetPutter()
	for _, f := range files {
		if f.Content != "" && f.Name != "big" {
			if _, _, err := kept.Put(f.Name, bytes.NewReader([]byte(f.Content))); err != nil {
				t.Fatal(err)
			}
		}
	}
	var again bytes.Buffer
	if err := asm.WriteOutputTarStream(kept, storage.NewJSONUnpacker(bytes.NewReader(without)), &again); err != nil || !bytes.Equal(again.Bytes(), raw) {
		t.Errorf("of %d bytes %d are made again: %v", len(raw), again.Len(), err)
	}
}

// A name twice, and an error of what the record is written to, end the record.
func TestWriterErrors(t *testing.T) {
	w := NewWriter(io.Discard, nil)
	for _, again := range []bool{false, true} {
		w.Begin(&tar.Header{Name: map[bool]string{false: "a", true: "./a"}[again]})
		if err := w.End(); (err != nil) != again {
			t.Errorf("again: %t, %v", again, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	full := errors.New("full")
	w = NewWriter(failing{full}, nil)
	w.Record(make([]byte, 1<<20))
	if err := errors.Join(w.Close(), w.Err()); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
