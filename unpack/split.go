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

// splitWriter records what of a tar is not in the files that are made of it: the
// raw bytes of headers and padding, and a checksum of each file. Docker makes the
// very tar of a layer again from that record and the files.
//
// The record is what tar-split's asm.NewInputTarStream and storage.NewJSONPacker
// make of the same tar, with one exception. They take for granted that each entry
// with a size becomes a file with that content. Docker fails to save a layer where
// that is not so: AUFS' hidden files, a whiteout with content, a hardlink whose header
// has a size. Here the record has the content of such an entry as raw bytes of the
// tar, if there is any, and a size of 0.
//
// tar-split reads the tar a second time, in a goroutine behind a pipe, and keeps the
// names of all entries; this does neither.
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
	seen map[uint64]struct{}
	seed maphash.Seed

	header *tar.Header // of the entry at hand
	tr     *tar.Reader
	told   bool // the entry has its line
	crc    uint64
}

func newSplitWriter(w io.Writer) *splitWriter {
	if w == nil {
		return nil
	}
	return &splitWriter{
		out:  newBehind(w),
		seen: make(map[uint64]struct{}),
		seed: maphash.MakeSeed(),
	}
}

// summed reads content for a file of the layer, and sums it up.
type summed struct {
	w *splitWriter
	r io.Reader
}

func (s summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.w.crc = crc64iso.Update(s.w.crc, p[:n])
	return n, err
}

// literal reads content that no file of the layer keeps, and records its bytes.
type literal struct {
	w *splitWriter
	r io.Reader
}

func (l literal) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if werr := l.w.segment(p[:n]); werr != nil {
		return n, werr
	}
	return n, err
}

// entry begins an entry.
func (w *splitWriter) entry(h *tar.Header, tr *tar.Reader) error {
	if w == nil {
		return nil
	}
	w.header, w.tr, w.told, w.crc = h, tr, false, 0
	return w.segment(tr.RawBytes())
}

// kept returns the reader of content that becomes a file of the entry's name.
func (w *splitWriter) kept(content io.Reader) io.Reader {
	if w == nil {
		return content
	}
	return summed{w, content}
}

// lost returns the reader of content that becomes no such file. It must be read to
// its end. Of a sparse file the bytes in the tar are not known, so it is recorded as
// a file, and Docker cannot make that tar again.
func (w *splitWriter) lost(content io.Reader) (io.Reader, error) {
	if w == nil {
		return content, nil
	}
	if sparse(w.header) {
		return w.kept(content), nil
	}
	return literal{w, content}, w.file(0)
}

// close ends the entry, whose content one of the two readers gave to its end.
func (w *splitWriter) close() error {
	if w == nil {
		return nil
	}
	if !w.told {
		if err := w.file(contentSize(w.header)); err != nil {
			return err
		}
	}
	return w.segment(w.tr.RawBytes())
}

// failure returns the first error of what the record is written to.
func (w *splitWriter) failure() error {
	if w == nil {
		return nil
	}
	return w.out.failure()
}

// contentSize returns how many bytes of content follow a header. Some types of entry
// have none, whatever size their header gives.
func contentSize(h *tar.Header) int64 {
	if kinds[h.Typeflag] != 0 || h.Typeflag == tar.TypeLink {
		return 0
	}
	return h.Size
}

// file records the entry: the size of the file that keeps its content, and the sum.
func (w *splitWriter) file(size int64) error {
	w.told = true
	name := w.header.Name
	hash := maphash.String(w.seed, path.Clean(name))
	if _, twice := w.seen[hash]; twice {
		return fault.WithHint(
			fault.New(fault.Failed, "the layer has this path twice, and Docker's layer store cannot hold such a layer"),
			"--rootfs extracts it; the image would have to be built again for Docker")
	}
	w.seen[hash] = struct{}{}

	w.begin(storage.FileType)
	switch {
	case !utf8.ValidString(name):
		w.line = base64.StdEncoding.AppendEncode(append(w.line, `,"name_raw":"`...), []byte(name))
		w.line = append(w.line, '"')
	case name != "":
		w.line = appendJSON(append(w.line, `,"name":`...), name)
	}
	if size == 0 {
		return w.write(nil)
	}
	w.line = strconv.AppendInt(append(w.line, `,"size":`...), size, 10)
	return w.write(binary.BigEndian.AppendUint64(nil, w.crc))
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
	return w.out.close()
}

// onlyWriter hides io.Discard's ReadFrom, which would use a small buffer.
type onlyWriter struct{ io.Writer }
