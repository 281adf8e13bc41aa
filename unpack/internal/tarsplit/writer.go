package tarsplit

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
	"github.com/fastpull/fastpull/internal/nameset"
)

// Writer writes the record of a tar while the tar is unpacked. The caller calls
// Begin, Keep or Drop, and End for each entry, in this order. It is for one goroutine.
//
// The record is the same as that of tar-split's asm.NewInputTarStream and storage.NewJSONPacker,
// with some exceptions. Those assume that each entry with a size has that many bytes in the tar,
// and that Docker finds a file with the same bytes under its name. Otherwise Docker cannot save
// the layer:
//
//   - the entry becomes no file: AUFS' hidden files, a whiteout with content;
//   - the entry has no content: a hardlink or directory whose header has a size;
//   - the file has other bytes than the tar: a sparse one;
//   - the name leads through a symlink that Docker follows to somewhere on the host.
//
// For these entries, the record has the content after the header, as it is in the tar, and the
// entry has the size 0. If there is a file, the entry also has its checksum.
//
// tar-split reads the tar a second time, in a goroutine behind a pipe, and keeps the names
// of all entries. A Writer does neither.
//
// On a nil Writer, Keep and Drop return the content, and other methods do nothing.
type Writer struct {
	out  *behind
	line []byte // reused
	raw  []byte // of the tar, before the entry at hand
	pos  int

	// seen has the hashes of the names so far, to refuse a name that comes again: Docker
	// could not read such a record. Of layers with a million entries, one in 30 million is
	// refused because two names have one hash. The next try has another seed.
	seen nameset.Set
	seed maphash.Seed

	header *tar.Header // of the entry at hand
	kept   bool        // a file has its content
	inline bool        // the record has its content
	crc    uint64      // of what the file has
}

// NewWriter returns a Writer of the record to w, nil if w is nil. names bounds the names
// that it keeps; nil bounds those of this layer only. The caller must call Close.
func NewWriter(w io.Writer, names *nameset.Budget) *Writer {
	if w == nil {
		return nil
	}
	if names == nil {
		names = new(nameset.Budget)
	}
	return &Writer{
		out:  newBehind(w),
		seen: nameset.Set{Budget: names},
		seed: maphash.MakeSeed(),
	}
}

// maxRaw bounds what is kept of large headers when they are recorded.
const maxRaw = 64 << 10

// Collect keeps bytes of the tar that come before an entry.
func (w *Writer) Collect(p []byte) { w.raw = append(w.raw, p...) }

// Record records bytes of the tar at once. Err returns its error.
func (w *Writer) Record(p []byte) { _ = w.segment(p) }

// Begin begins an entry, and records the bytes before it, which Collect kept.
func (w *Writer) Begin(h *tar.Header) error {
	if w == nil {
		return nil
	}
	w.header, w.kept, w.inline, w.crc = h, false, false, 0
	err := w.segment(w.raw)
	if w.raw = w.raw[:0]; cap(w.raw) > maxRaw {
		w.raw = nil
	}
	return err
}

// Keep returns a reader of the content of an entry that becomes a file. found tells whether
// Docker finds the file by the name of the entry. The content must be read to its end.
func (w *Writer) Keep(content io.Reader, found bool) io.Reader {
	if w == nil {
		return content
	}
	if w.kept = true; !found {
		content = w.Drop(content)
	}
	return summed{w, content}
}

// Drop returns a reader of the content of an entry that becomes no file. It must be read to
// its end.
func (w *Writer) Drop(content io.Reader) io.Reader {
	if w == nil || Sparse(w.header) { // the caller records what is in the tar
		return content
	}
	w.inline = true
	return recorded{w, content}
}

// summed sums up what is read.
type summed struct {
	w *Writer
	r io.Reader
}

func (s summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.w.crc = crc64iso.Update(s.w.crc, p[:n])
	return n, err
}

// recorded records what is read.
type recorded struct {
	w *Writer
	r io.Reader
}

func (l recorded) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.w.Record(p[:n])
	return n, err
}

// End ends the entry. Its content was read to its end, from Keep or from Drop.
func (w *Writer) End() error {
	if w == nil {
		return nil
	}
	name := w.header.Name
	twice, err := w.seen.Put(maphash.String(w.seed, path.Clean(name)))
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
	if !w.kept || ContentSize(w.header) == 0 {
		return w.write(nil)
	}
	if !w.inline && !Sparse(w.header) {
		w.line = strconv.AppendInt(append(w.line, `,"size":`...), w.header.Size, 10)
	}
	return w.write(binary.BigEndian.AppendUint64(nil, w.crc))
}

// Err returns the first error of writing the record.
func (w *Writer) Err() error {
	if w == nil {
		return nil
	}
	return w.out.failure()
}

// segment records bytes of the tar that are in no file.
func (w *Writer) segment(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	w.begin(storage.SegmentType)
	return w.write(b)
}

// A line is a storage.Entry in JSON, as encoding/json writes it.
func (w *Writer) begin(t storage.Type) {
	w.line = strconv.AppendInt(append(w.line[:0], `{"type":`...), int64(t), 10)
}

func (w *Writer) write(payload []byte) error {
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

// Tail records what follows the last entry: the rest of r, which it reads to its end.
func (w *Writer) Tail(r io.Reader) error {
	if w == nil {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	if err := w.segment(w.raw); err != nil {
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

// Close returns when the record is written.
func (w *Writer) Close() error {
	if w == nil {
		return nil
	}
	w.seen.Drop()
	return w.out.close()
}
