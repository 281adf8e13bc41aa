package overlay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/fault"
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

// TestTarIndex makes parts of a tar, at the same time and after one another, and
// compares them. What is decoded for one is bounded.
func TestTarIndex(t *testing.T) {
	split, dir, plain := manyEntries(t, 6000)
	var whole bytes.Buffer
	x, err := indexTar(t.Context(), split, dir, &whole)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(whole.Bytes(), plain) || x.Size() != int64(len(plain)) {
		t.Fatalf("the tar has %d bytes, size %d, want %d", whole.Len(), x.Size(), len(plain))
	}
	if n := len(x.marks); n < 50 || n > 100 {
		t.Errorf("%d marks", n)
	}
	part := func(off int64) {
		f, err := os.Open(split)
		if err != nil {
			t.Error(err)
			return
		}
		r, err := x.open(f, off)
		if err != nil {
			t.Errorf("from byte %d: %v", off, err)
			return
		}
		defer r.Close()
		begun := r.entries.at.split
		want := plain[off:min(off+3000, int64(len(plain)))]
		got := make([]byte, len(want))
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("from byte %d: %v", off, err)
		}
		if decoded := r.entries.at.split - begun; decoded > 2*markEvery {
			t.Errorf("for byte %d of %d, %d bytes of tar-split were decoded", off, len(plain), decoded)
		}
	}
	offs := []int64{0, int64(len(plain)) - 1, int64(len(plain))}
	for _, m := range x.marks {
		offs = append(offs, m.tar-1, m.tar, m.tar+1)
	}
	for range 20 {
		offs = append(offs, rand.Int64N(int64(len(plain))))
	}
	var readers sync.WaitGroup
	for _, off := range offs {
		readers.Go(func() { part(off) })
	}
	readers.Wait()
}

// TestTarIndexStale refuses to read by the index of another tar-split than the one that
// is there: its marks lead anywhere.
func TestTarIndexStale(t *testing.T) {
	split, dir, plain := manyEntries(t, 3000)
	x, err := indexTar(t.Context(), split, dir, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	// A tar-split of the same tar, whose entries are cut another way.
	other, z := filepath.Join(t.TempDir(), "other"), new(bytes.Buffer)
	w := gzip.NewWriter(z)
	pack := storage.NewJSONPacker(w)
	for part := range slices.Chunk(plain, 700) {
		if _, err := pack.AddEntry(storage.Entry{Type: storage.SegmentType, Payload: part}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(other, z.Bytes(), 0o644), os.Rename(other, split)); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1 << 20} {
		if r, err := x.Open(off); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("from byte %d: %v", off, err)
			if err == nil {
				r.Close()
			}
		}
	}
	if err := os.Remove(split); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Open(0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tar-split is gone: %v", err)
	}
}

// TestTarIndexFails returns no index of what cannot be made.
func TestTarIndexFails(t *testing.T) {
	split, dir, _ := manyEntries(t, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := indexTar(ctx, split, dir, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	full, in := io.Pipe()
	full.Close()
	if _, err := indexTar(t.Context(), split, dir, in); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the writer fails: %v", err)
	}
	write(t, filepath.Join(dir, "folder/file7"), "other")
	if _, err := indexTar(t.Context(), split, dir, io.Discard); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("a file has changed: %v", err)
	}
}

// BenchmarkTarIndex asks for parts of a tar, the last first.
func BenchmarkTarIndex(b *testing.B) {
	split, dir, plain := manyEntries(b, 100_000)
	x, err := indexTar(b.Context(), split, dir, io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	off := int64(len(plain))
	for b.Loop() {
		if off -= 1 << 20; off < 0 {
			off = int64(len(plain)) - 1<<20
		}
		r, err := x.Open(off)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, r, 4096); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}
