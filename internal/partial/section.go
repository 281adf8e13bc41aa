package partial

import (
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
)

// RecordSize is how many bytes before a blob in a Section its record may take.
const RecordSize = 512

// Section is the part of a larger file that one blob has for itself. The process that made the
// larger file may write to all of it, so every File of a Section has the lock, and no other
// process reads it. The record of the blob takes the RecordSize bytes before the blob. When the
// blob is complete, the process may overwrite the record.
type Section struct {
	In    readerWriterAt // the larger file
	At    int64          // offset of the blob
	Blob  digest.Digest  // digest of the blob
	Size  int64          // of the blob in bytes, 1 or more
	Whole bool           // the blob is complete, and its record was overwritten
}

type readerWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// Found returns how many bytes of the blob are complete, as its record says.
func (r *Section) Found() int64 {
	if r.Whole {
		return r.Size
	}
	rec := r.record()
	rec.read(r.In)
	return r.Size - rec.left
}

func (r *Section) record() *record { return newSectionRecord(r.Blob, r.Size, r.At-RecordSize) }

// IsRecord reports whether block, the beginning of a file, is the record of a Section.
func IsRecord(block []byte) bool { return strings.HasPrefix(string(block), sectionMagic) }

// Recorded reports whether block, which is RecordSize bytes long, is the record of a blob.
func Recorded(block []byte, blob digest.Digest, size int64) bool {
	rec := newSectionRecord(blob, size, 0)
	return len(block) == RecordSize && string(block[:len(rec.header)]) == string(rec.header)
}

// Begin writes a record in which no block is complete.
func (r *Section) Begin() error { return r.empty(r.record()) }

// empty does the same with a record that the caller has.
func (r *Section) empty(rec *record) error {
	rec.load(nil)
	block := make([]byte, RecordSize)
	copy(block, rec.header)
	r.Whole = false
	_, err := r.In.WriteAt(block, r.At-RecordSize)
	return err
}

// Open returns a File of the Section's blob, with the blocks that are complete.
func (r *Section) Open(blob digest.Digest, size int64) (*File, error) {
	if blob != r.Blob || size != r.Size {
		return nil, fmt.Errorf("write blob %s of %d bytes: the section is for %s of %d", blob, size, r.Blob, r.Size)
	}
	f := &File{name: blob.String(), size: size, section: r, rec: r.record(), owned: true}
	if r.Whole {
		f.rec.set(0, f.rec.blocks())
	} else {
		f.rec.read(r.In)
	}
	f.found = size - f.rec.left
	return f, nil
}
