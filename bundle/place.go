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

// Place is the offset of a blob whose digest and size are known before it is written. So the
// offsets of later blobs are known too, and several blobs can be written at a time. In a
// draft, the bytes that an earlier run wrote to the same Place are still there.
type Place struct {
	partial.Section
	w *Writer
	n int64 // what Write has written
}

// The record of a blob is where its header will be, or the last block of that.
var _ = [1]struct{}{}[blockSize-partial.RecordSize]

// Places reports whether [Writer.Place] can be used: if it writes one file that is not
// compressed.
func (w *Writer) Places() bool { return w.single != nil }

// Place returns the place of a blob, which is the next one that is free if it has
// none. It is nil for a blob that has been written.
func (w *Writer) Place(d digest.Digest, size int64) (*Place, error) {
	if w.blobs[d] {
		return nil, nil
	}
	if p := w.places[d]; p != nil {
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
	p := &Place{w: w, Section: partial.Section{In: w.single, At: w.off + headerLen(d), Blob: d, Size: size}}
	if err := w.lay(p); err != nil { // the next one has its place there
		return nil, fmt.Errorf("write %s: %w", blobName(d), err)
	}
	w.places[d] = p
	return p, nil
}

// lay finds out what is at a place already, and goes on after it. What is not for
// this blob is of a bundle that was to be another one from here on.
func (w *Writer) lay(p *Place) error {
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

// start is where the file of the blob begins.
func (p *Place) start() int64 { return p.At - headerLen(p.Blob) }

// end is where the next file of the bundle begins.
func (p *Place) end() int64 { return p.At + p.Size + padding(p.Size) }

// Reset makes Write begin anew.
func (p *Place) Reset() { p.n = 0 }

// Write writes more of the blob, if it is not downloaded into the section.
func (p *Place) Write(b []byte) (int, error) {
	if int64(len(b)) > p.Size-p.n {
		return 0, io.ErrShortWrite
	}
	n, err := p.In.WriteAt(b, p.At+p.n)
	p.n += int64(n)
	return n, err
}

// Done ends the blob: all of it is there and hashes to its digest, as the caller
// knows. As with everything of a Writer, no other call of one may be under way.
func (p *Place) Done() error {
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

// closeGaps moves what comes after the places of blobs that have not come, for images
// that are left out: a tar has no gaps.
func (w *Writer) closeGaps() error {
	var gaps []*Place
	for d, p := range w.places {
		if !w.blobs[d] {
			gaps = append(gaps, p)
		}
	}
	if len(gaps) == 0 {
		return nil
	}
	slices.SortFunc(gaps, func(a, b *Place) int { return cmp.Compare(a.At, b.At) })
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
