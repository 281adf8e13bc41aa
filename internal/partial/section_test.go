package partial

import (
	"bytes"
	_ "crypto/sha512"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// sectionFor makes a file with a section for a blob.
func sectionFor(t *testing.T, size int64) (*Section, *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	r := &Section{In: f, At: 3*RecordSize + 7, Blob: name, Size: size}
	if err := errors.Join(r.Begin(), f.Truncate(r.At+size)); err != nil {
		t.Fatal(err)
	}
	return r, f
}

// TestSection fills a section in two runs: the second one finds what the first has written,
// and only what is the blob's has been touched.
func TestSection(t *testing.T) {
	r, file := sectionFor(t, int64(len(blob)))
	if r.Found() != 0 {
		t.Errorf("at first %d bytes are whole", r.Found())
	}
	one, err := r.Open(name, r.Size)
	if err != nil {
		t.Fatal(err)
	}
	own(t, one)
	fill(t, one, 2*Block, 4*Block+100) // of the last block only a part
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if r.Found() != 2*Block {
		t.Errorf("%d bytes are whole", r.Found())
	}
	two, err := (&Section{In: file, At: r.At, Blob: name, Size: r.Size}).Open(name, r.Size) // of another process
	if err != nil || two.Found() != 2*Block || !two.InSection() {
		t.Fatalf("found %d, in a section: %v, %v", two.Found(), two.InSection(), err)
	}
	fill(t, two, 0, 2*Block)
	fill(t, two, 4*Block, len(blob))
	if two.Left() != 0 {
		t.Errorf("%d bytes are left", two.Left())
	}
	got, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[r.At:], blob) || !bytes.Equal(got[:r.At-RecordSize], make([]byte, r.At-RecordSize)) {
		t.Error("the blob, or what is before its record, is not as it should be")
	}
	if record := got[r.At-RecordSize : r.At]; !IsRecord(record) || !Recorded(record, name, r.Size) ||
		Recorded(record, name, r.Size+1) || Recorded(record, digest.FromString("other"), r.Size) || Recorded(record[1:], name, r.Size) {
		t.Errorf("the record is %q", record)
	}
	if err := two.Remove(); err != nil || r.Found() != 0 {
		t.Errorf("%d bytes are whole of what came damaged, %v", r.Found(), err)
	}
}

// TestSectionWhole: when something else was written over the record, all of the blob is
// there, until somebody finds that it is not.
func TestSectionWhole(t *testing.T) {
	r, file := sectionFor(t, int64(len(blob)))
	if _, err := file.WriteAt(make([]byte, RecordSize), r.At-RecordSize); err != nil {
		t.Fatal(err)
	}
	r.Whole = true
	f, err := r.Open(name, r.Size)
	if err != nil || f.Left() != 0 || f.Found() != r.Size || r.Found() != r.Size {
		t.Fatalf("%d bytes are left, %v", f.Left(), err)
	}
	if err := f.Remove(); err != nil {
		t.Fatal(err)
	}
	if f, err = r.Open(name, r.Size); err != nil || f.Left() != r.Size {
		t.Errorf("then %d bytes are left, %v", f.Left(), err)
	}
	if _, err := r.Open(name, r.Size-1); err == nil {
		t.Error("a section took a blob of another size")
	}
}

// TestSectionRecord: a record fits before any blob, and its blocks are those of the
// blob however large that is.
func TestSectionRecord(t *testing.T) {
	longest := digest.SHA512.FromString("x")
	for _, size := range []int64{0, 1, Block - 1, Block, 5 * Block, 40 << 20, 1 << 30, 1<<30 + 1, MaxSize} {
		rec := newSectionRecord(longest, size, 0)
		if rec.end() > RecordSize || rec.block%Block != 0 || rec.block*rec.blocks() < size || int64(len(rec.bits))*8 < rec.blocks() {
			t.Errorf("%d bytes: a record of %d bytes, %d blocks of %d", size, rec.end(), rec.blocks(), rec.block)
		}
		rec.set(0, rec.blocks())
		if rec.left != 0 {
			t.Errorf("%d bytes: %d are left of all", size, rec.left)
		}
		if n := rec.blocks(); n > 1 {
			rec.load(append(bytes.Clone(rec.header), append([]byte{1}, make([]byte, len(rec.bits)-1)...)...))
			if rec.left != size-rec.block {
				t.Errorf("%d bytes: %d are left of all but the first block", size, rec.left)
			}
		}
	}
}
