package unpack

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
	"io"
	"path"
	"strconv"
	"unicode/utf8"

	"github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/crc64iso"
)

// splitWriter writes down what of a tar is not in the files that are made of it:
// the raw bytes of headers and padding, and a checksum of each file. What it
// writes is what tar-split's asm.NewInputTarStream and storage.NewJSONPacker make
// of the same tar. They read the tar a second time, in a goroutine behind a pipe,
// and keep the names of all entries; this does neither.
//
// A nil splitWriter does nothing but give the content.
type splitWriter struct {
	out  *behind
	line []byte // reused
	pos  int

	// seen has the hashes of the names so far, to refuse a name that comes again:
	// Docker could not read such a record. A layer that is refused for two names
	// with one hash will be taken when it is tried again, with another seed; of
	// layers with a million entries that is one in 30 million.
	seen nameSet
	seed maphash.Seed

	header *tar.Header // of the entry at hand
	sum    summed      // its content
}

func newSplitWriter(w io.Writer, mem *Memory) *splitWriter {
	if w == nil {
		return nil
	}
	return &splitWriter{
		out:  newBehind(w),
		seen: nameSet{mem: mem.orOwn()},
		seed: maphash.MakeSeed(),
	}
}

// summed is the content of an entry, with the CRC64 of what was read of it.
type summed struct {
	r   io.Reader
	crc uint64
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.crc = crc64iso.Update(s.crc, p[:n])
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
	w.header = h
	if h.Size == 0 {
		return tr, nil
	}
	w.sum = summed{r: tr}
	return &w.sum, nil
}

// close ends the entry, of which the whole content was read.
func (w *splitWriter) close(tr *tar.Reader) error {
	if w == nil {
		return nil
	}
	name := w.header.Name
	twice, err := w.seen.put(maphash.String(w.seed, path.Clean(name)))
	if err != nil {
		return err
	}
	if twice {
		return fault.WithHint(
			fault.New(fault.Failed, "the layer has this path twice, and Docker's layer store cannot hold such a layer"),
			"--rootfs extracts it; the image would have to be built again for Docker")
	}

	w.begin(storage.FileType)
	switch {
	case !utf8.ValidString(name):
		w.line = base64.StdEncoding.AppendEncode(append(w.line, `,"name_raw":"`...), []byte(name))
		w.line = append(w.line, '"')
	case name != "":
		w.line = appendJSON(append(w.line, `,"name":`...), name)
	}
	if w.header.Size == 0 {
		return w.end(nil, tr)
	}
	w.line = strconv.AppendInt(append(w.line, `,"size":`...), w.header.Size, 10)
	return w.end(binary.BigEndian.AppendUint64(nil, w.sum.crc), tr)
}

// end ends the line of a file, and records what follows it.
func (w *splitWriter) end(sum []byte, tr *tar.Reader) error {
	if err := w.write(sum); err != nil {
		return err
	}
	return w.segment(tr.RawBytes())
}

// segment records bytes of the tar that are in no file.
func (w *splitWriter) segment(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	w.begin(storage.SegmentType)
	return w.write(b)
}

// A line is a storage.Entry in JSON, as encoding/json writes it.
func (w *splitWriter) begin(t storage.Type) {
	w.line = strconv.AppendInt(append(w.line[:0], `{"type":`...), int64(t), 10)
}

func (w *splitWriter) write(payload []byte) error {
	w.line = append(w.line, `,"payload":`...)
	if payload == nil {
		w.line = append(w.line, "null"...)
	} else {
		w.line = append(base64.StdEncoding.AppendEncode(append(w.line, '"'), payload), '"')
	}
	w.line = strconv.AppendInt(append(w.line, `,"position":`...), int64(w.pos), 10)
	w.pos++
	_, err := w.out.Write(append(w.line, "}\n"...))
	return err
}

// appendJSON appends s as encoding/json writes a string. Most names need no
// escapes.
func appendJSON(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // of a string: never fails
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// tail records what comes behind the last entry, and reads r to its end.
func (w *splitWriter) tail(trailer []byte, r io.Reader) error {
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
			return nil
		}
		return err
	}
}

// finish returns when all lines are written. Nothing may follow.
func (w *splitWriter) finish() error {
	if w == nil {
		return nil
	}
	w.seen.drop()
	return w.out.close()
}

// onlyWriter hides io.Discard's ReadFrom, which would use a small buffer.
type onlyWriter struct{ io.Writer }
