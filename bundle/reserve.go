package bundle

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/copying"
	"github.com/fastpull/fastpull/internal/partial"
)

// Reservation is the part of a bundle for one blob whose digest and size are known before the
// blob is written. So the offsets of later blobs are known too, and several blobs can be written
// at a time. In a draft, it still has the bytes that an earlier run wrote.
type Reservation struct {
	partial.Section
	w *Writer
	n int64 // bytes that Write has written
}

// The record of a blob takes the block of its header, or the last block of a long header.
var _ = [1]struct{}{}[blockSize-partial.RecordSize]

// Reserves reports whether [Writer.Reserve] can be used: only in one file that is not
// compressed.
func (w *Writer) Reserves() bool { return w.single != nil }

// Reserve returns the reservation of a blob. It makes one at the end of the bundle if the blob
// has none. It returns nil for a blob that has been written.
func (w *Writer) Reserve(d digest.Digest, size int64) (*Reservation, error) {
	if w.blobs[d] {
		return nil, nil
	}
	if p := w.reserved[d]; p != nil {
		if p.Size != size {
			return nil, fault.New(fault.Corrupt, "blob %s is named with %d bytes and with %d", d, p.Size, size)
		}
		return p, nil
	}
	if w.broken != nil {
		return nil, w.broken
	}
	if size < 0 || size > partial.MaxSize {
		return nil, fault.New(fault.Failed, "blob %s has %d bytes, which is more than a bundle takes", d, size)
	}
	p := &Reservation{w: w, Section: partial.Section{In: w.single, At: w.off + headerLen(d), Blob: d, Size: size}}
	if err := w.allocate(p); err != nil { // later blobs would be at the wrong offset
		return nil, fmt.Errorf("write %s: %w", blobName(d), err)
	}
	w.reserved[d] = p
	return p, nil
}

// allocate finds out which bytes of a blob are there already, and moves the writer's offset
// behind the blob. Other bytes are of a draft of another bundle: they are cut off.
func (w *Writer) allocate(p *Reservation) error {
	h, err := header(blobName(p.Blob), p.Size)
	if err != nil {
		return err
	}
	there := make([]byte, len(h))
	n, err := w.single.ReadAt(there, w.off)
	if err != nil && err != io.EOF {
		return err
	}
	there = there[:n]
	p.Whole = bytes.Equal(there, h)
	name := h[:len(h)-blockSize] // if it is a long one
	rest, named := bytes.CutPrefix(there, name)
	if !p.Whole && !(named && partial.Recorded(rest, p.Blob, p.Size)) {
		if err := w.single.Truncate(w.off); err != nil {
			return err
		}
		if _, err := w.single.WriteAt(name, w.off); err != nil {
			return err
		}
		if err := p.Begin(); err != nil {
			return err
		}
	}
	if err := w.single.reserve(p.end()); err != nil {
		return err
	}
	w.off = p.end()
	return nil
}

// start returns the offset of the blob's header.
func (p *Reservation) start() int64 { return p.At - headerLen(p.Blob) }

// end returns the offset of the next file in the bundle.
func (p *Reservation) end() int64 { return p.At + p.Size + padding(p.Size) }

// Reset makes Write begin again at the first byte.
func (p *Reservation) Reset() { p.n = 0 }

// Write writes more of the blob, if it is not downloaded into the section.
func (p *Reservation) Write(b []byte) (int, error) {
	if int64(len(b)) > p.Size-p.n {
		return 0, io.ErrShortWrite
	}
	n, err := p.In.WriteAt(b, p.At+p.n)
	p.n += int64(n)
	return n, err
}

// Done completes the blob. The caller has verified that all of it is there and hashes to its
// digest. As with all methods of a Writer, no other call may be in progress.
func (p *Reservation) Done() error {
	h, err := header(blobName(p.Blob), p.Size)
	if err == nil {
		_, err = p.In.WriteAt(p.w.zeroes[:padding(p.Size)], p.At+p.Size)
	}
	if err == nil {
		_, err = p.In.WriteAt(h, p.start())
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", blobName(p.Blob), err)
	}
	p.Whole, p.w.blobs[p.Blob] = true, true
	return nil
}

// closeGaps moves later files over the reservations of blobs that were not written, since their
// images were left out: a tar has no gaps.
func (w *Writer) closeGaps() error {
	var gaps []*Reservation
	for d, p := range w.reserved {
		if !w.blobs[d] {
			gaps = append(gaps, p)
		}
	}
	if len(gaps) == 0 {
		return nil
	}
	slices.SortFunc(gaps, func(a, b *Reservation) int { return cmp.Compare(a.At, b.At) })
	to := gaps[0].start()
	for i, p := range gaps {
		end := w.off
		if i+1 < len(gaps) {
			end = gaps[i+1].start()
		}
		n, err := copying.Copy(io.NewOffsetWriter(w.single, to), io.NewSectionReader(w.single, p.end(), end-p.end()))
		if err != nil {
			return fmt.Errorf("close a gap: %w", err)
		}
		to += n
	}
	w.off = to
	return w.single.Truncate(to)
}
