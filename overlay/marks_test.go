package overlay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/storage"
)

// manyEntries writes a tar-split of n headers of other bytes each, and now and then a
// file. It returns where that is, the folder of the files, and the tar.
func manyEntries(t testing.TB, n int) (split, dir string, plain []byte) {
	t.Helper()
	dir, split = t.TempDir(), filepath.Join(t.TempDir(), "tar-split.json.gz")
	f, err := os.Create(split)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	pack := storage.NewJSONPacker(z)
	add := func(e storage.Entry) {
		if _, err := pack.AddEntry(e); err != nil {
			t.Fatal(err)
		}
	}
	random := rand.NewChaCha8([32]byte{})
	for i := range n {
		header := make([]byte, 512)
		random.Read(header[:40]) // the rest is empty, as in most headers
		add(storage.Entry{Type: storage.SegmentType, Payload: header})
		plain = append(plain, header...)
		e := storage.Entry{Type: storage.FileType, Name: fmt.Sprint("folder/file", i)}
		if i%1000 == 7 {
			content := make([]byte, 700)
			random.Read(content)
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, "folder"), 0o755), os.WriteFile(filepath.Join(dir, e.Name), content, 0o644)); err != nil {
				t.Fatal(err)
			}
			e.Size = int64(len(content))
			e.Payload = binary.BigEndian.AppendUint64(nil, crc64.Checksum(content, crc64.MakeTable(crc64.ISO)))
			plain = append(plain, content...)
		}
		add(e)
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return split, dir, plain
}

// TestTarMarks makes parts of a tar by way of marks, and compares them.
func TestTarMarks(t *testing.T) {
	split, dir, plain := manyEntries(t, 6000)
	marks := new(TarMarks)
	part := func(off int64) {
		r, err := openTar(split, dir, off, marks)
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		want := plain[off:min(off+3000, int64(len(plain)))]
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("from byte %d: %v", off, err)
		}
	}
	// Made by several who go on at different places, at the same time.
	var readers sync.WaitGroup
	for i := range 8 {
		readers.Go(func() { part(int64(len(plain)) * int64(i) / 8) })
	}
	readers.Wait()
	last := int64(len(plain)) - 10
	part(last)
	if n := len(marks.list); n < 3 || n > 8 {
		t.Fatalf("%d marks", n)
	}
	for _, m := range marks.list {
		for _, off := range []int64{m.tar - 1, m.tar, m.tar + 1} {
			part(off)
		}
	}
	for range 10 {
		part(rand.Int64N(int64(len(plain))))
	}
	r, err := openTar(split, dir, last, marks)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	begun := r.entries.at.split
	if _, err := io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	if decoded := r.entries.at.split - begun; decoded > 2*markEvery {
		t.Errorf("for the last bytes %d of %d were decoded", decoded, r.entries.at.split)
	}
	if whole, err := openTar(split, dir, 0, marks); err != nil || whole.entries.at != (tarMark{}) {
		t.Errorf("the whole: %v", err)
	} else {
		whole.Close()
	}
}

// BenchmarkTarFrom asks for parts of a tar, the last first.
func BenchmarkTarFrom(b *testing.B) {
	split, dir, plain := manyEntries(b, 100_000)
	for name, marks := range map[string]*TarMarks{"marks": new(TarMarks), "none": nil} {
		b.Run(name, func(b *testing.B) {
			off := int64(len(plain))
			for b.Loop() {
				if off -= 1 << 20; off < 0 {
					off = int64(len(plain)) - 1<<20
				}
				r, err := openTar(split, dir, off, marks)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.CopyN(io.Discard, r, 4096); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
