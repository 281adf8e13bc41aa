package partial

import (
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
)

// RecordSize is how many bytes before a blob in a Room its record may take.
const RecordSize = 512

// Room is the place of one blob in a larger file. The owner of the larger file may write to
// all of it, so all Files of the Room have the lock, and no other process reads it. The blob's
// record is in the RecordSize bytes before the blob. When the blob is whole, the owner writes
// something else there.
type Room struct {
	In    readerWriterAt // the file
	At    int64          // where the blob begins
	Blob  digest.Digest  // which it is
	Size  int64          // its bytes, more than none
	Whole bool           // what is before it is no record any more
}

type readerWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// Found returns how many bytes of the blob are whole, by the record that is there.
func (r *Room) Found() int64 {
	if r.Whole {
		return r.Size
	}
	rec := r.record()
	rec.read(r.In)
	return r.Size - rec.left
}

func (r *Room) record() *record { return newRoomRecord(r.Blob, r.Size, r.At-RecordSize) }

// IsRecord reports whether what a file begins with is a Room's record.
func IsRecord(block []byte) bool { return strings.HasPrefix(string(block), roomMagic) }

// Recorded reports whether block, which is RecordSize bytes long, is the record of a blob.
func Recorded(block []byte, blob digest.Digest, size int64) bool {
	rec := newRoomRecord(blob, size, 0)
	return len(block) == RecordSize && string(block[:len(rec.header)]) == string(rec.header)
}

// Begin makes it one of which nothing is whole.
func (r *Room) Begin() error { return r.empty(r.record()) }

// empty does the same, for a caller that has the record.
func (r *Room) empty(rec *record) error {
	rec.load(nil)
	block := make([]byte, RecordSize)
	copy(block, rec.header)
	r.Whole = false
	_, err := r.In.WriteAt(block, r.At-RecordSize)
	return err
}

// Open opens what there is of the Room's blob.
func (r *Room) Open(blob digest.Digest, size int64) (*File, error) {
	if blob != r.Blob || size != r.Size {
		return nil, fmt.Errorf("keep blob %s of %d bytes: the place is for %s of %d", blob, size, r.Blob, r.Size)
	}
	f := &File{name: blob.String(), size: size, room: r, rec: r.record(), owned: true}
	if r.Whole {
		f.rec.set(0, f.rec.blocks())
	} else {
		f.rec.read(r.In)
	}
	f.found = size - f.rec.left
	return f, nil
}
