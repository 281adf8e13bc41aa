package unpack

import (
	"bufio"
	"errors"
	"hash/crc64"
	"io"

	"github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/fault"
)

// splitWriter writes down what of a tar is not in the files that are made of it:
// the raw bytes of headers and padding, and a checksum of each file. What it
// writes is what tar-split's asm.NewInputTarStream makes of the same tar; that
// reads the tar a second time, in a goroutine behind a pipe, and this does not.
//
// A nil splitWriter does nothing but give the content.
type splitWriter struct {
	packer storage.Packer
	out    *bufio.Writer

	header *tar.Header // of the entry at hand
	sum    *summed     // its content, nil when it has none
	buf    summed
}

func newSplitWriter(w io.Writer) *splitWriter {
	if w == nil {
		return nil
	}
	out := bufio.NewWriterSize(w, 32<<10)
	return &splitWriter{packer: storage.NewJSONPacker(out), out: out}
}

// summed is the content of an entry, with the CRC64 of what was read of it.
type summed struct {
	r   io.Reader
	crc uint64
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.crc = crc64.Update(s.crc, storage.CRCTable, p[:n])
	return n, err
}

// entry begins an entry and returns its content.
func (w *splitWriter) entry(h *tar.Header, tr *tar.Reader) (io.Reader, error) {
	if w == nil {
		return tr, nil
	}
	if err := w.segment(tr.RawBytes()); err != nil {
		return nil, err
	}
	w.header, w.sum = h, nil
	if h.Size == 0 {
		return tr, nil
	}
	w.buf = summed{r: tr}
	w.sum = &w.buf
	return w.sum, nil
}

// close ends the entry, of which the whole content was read.
func (w *splitWriter) close(tr *tar.Reader) error {
	if w == nil {
		return nil
	}
	e := storage.Entry{Type: storage.FileType, Size: w.header.Size}
	if w.sum != nil {
		h := w.sum.crc
		e.Payload = []byte{byte(h >> 56), byte(h >> 48), byte(h >> 40), byte(h >> 32),
			byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
	}
	e.SetName(w.header.Name)
	if _, err := w.packer.AddEntry(e); err != nil {
		if errors.Is(err, storage.ErrDuplicatePath) {
			return fault.WithHint(
				fault.New(fault.Failed, "the layer has this path twice, and Docker's layer store cannot hold such a layer"),
				"--rootfs extracts it; the image would have to be built again for Docker")
		}
		return err
	}
	return w.segment(tr.RawBytes())
}

func (w *splitWriter) segment(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	_, err := w.packer.AddEntry(storage.Entry{Type: storage.SegmentType, Payload: b})
	return err
}

// end records what comes behind the last entry, and reads r to its end.
func (w *splitWriter) end(trailer []byte, r io.Reader) error {
	if w == nil {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	if err := w.segment(trailer); err != nil {
		return err
	}
	padding := make([]byte, 1<<20)
	for {
		n, err := io.ReadFull(r, padding)
		if serr := w.segment(padding[:n]); serr != nil {
			return serr
		}
		switch err {
		case nil:
			continue
		case io.EOF, io.ErrUnexpectedEOF:
			return w.out.Flush()
		}
		return err
	}
}

// onlyWriter hides io.Discard's ReadFrom, which would use a small buffer.
type onlyWriter struct{ io.Writer }
