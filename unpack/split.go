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
	"github.com/fastpull/fastpull/internal/nameset"
)

// splitWriter records what of a tar is not in the files that are made of it: the
// raw bytes of headers and padding, and a checksum of each file. Docker makes the
// very tar of a layer again from that record and the files.
//
// The record is what tar-split's asm.NewInputTarStream and storage.NewJSONPacker
// make of the same tar, with some exceptions. They take for granted that each entry
// with a size has that many bytes in the tar, and that Docker finds a file with the
// same bytes under its name. Docker fails to save a layer where that is not so:
//
//   - nothing becomes of the entry: AUFS' hidden files, a whiteout with content;
//   - the entry has no content: a hardlink or directory whose header has a size;
//   - the file has other bytes than the tar: a sparse one;
//   - the name leads through a symlink that Docker follows to somewhere on the host.
//
// There the record has the content, as it is in the tar, behind the header, and the
// entry has the size 0. If there is a file, the entry has its checksum all the same.
//
// tar-split reads the tar a second time, in a goroutine behind a pipe, and keeps the
// names of all entries; this does neither.
//
// A nil splitWriter does nothing but give the content.
type splitWriter struct {
	out  *behind
	line []byte // reused
	raw  []byte // of the tar, before the entry at hand
	pos  int

	// seen has the hashes of the names so far, to refuse a name that comes again:
	// Docker could not read such a record. A layer that is refused for two names
	// with one hash will be taken when it is tried again, with another seed; of
	// layers with a million entries that is one in 30 million.
	seen nameset.Set
	seed maphash.Seed

	header *tar.Header // of the entry at hand
	kept   bool        // a file has its content
	inline bool        // the record has its content
	crc    uint64      // of what the file has
}

func newSplitWriter(w io.Writer, names *nameset.Budget) *splitWriter {
	if w == nil {
		return nil
	}
	if names == nil {
		names = new(nameset.Budget)
	}
	return &splitWriter{
		out:  newBehind(w),
		seen: nameset.Set{Budget: names},
		seed: maphash.MakeSeed(),
	}
}

// maxRaw bounds what is kept of large headers when they are recorded.
const maxRaw = 64 << 10

// collect keeps bytes of the tar that come before an entry.
func (w *splitWriter) collect(p []byte) { w.raw = append(w.raw, p...) }

// record records bytes of the tar at once. Its error is failure's, too.
func (w *splitWriter) record(p []byte) { _ = w.segment(p) }

// entry begins an entry, and records what came before it.
func (w *splitWriter) entry(h *tar.Header) error {
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

// keep returns the reader of content that becomes a file, by whose name Docker finds it
// or not.
func (w *splitWriter) keep(content io.Reader, found bool) io.Reader {
	if w == nil {
		return content
	}
	if w.kept = true; !found {
		content = w.drop(content)
	}
	return summed{w, content}
}

// drop returns the reader of content that becomes no file. It must be read to its end.
func (w *splitWriter) drop(content io.Reader) io.Reader {
	if w == nil || sparse(w.header) { // of which the feed records what is in the tar
		return content
	}
	w.inline = true
	return recorded{w, content}
}

// summed sums up what is read.
type summed struct {
	w *splitWriter
	r io.Reader
}

func (s summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.w.crc = crc64iso.Update(s.w.crc, p[:n])
	return n, err
}

// recorded records what is read.
type recorded struct {
	w *splitWriter
	r io.Reader
}

func (l recorded) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.w.record(p[:n])
	return n, err
}

// close ends the entry, whose content was read to its end, by keep or by drop.
func (w *splitWriter) close() error {
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
	if !w.kept || contentSize(w.header) == 0 {
		return w.write(nil)
	}
	if !w.inline && !sparse(w.header) {
		w.line = strconv.AppendInt(append(w.line, `,"size":`...), w.header.Size, 10)
	}
	return w.write(binary.BigEndian.AppendUint64(nil, w.crc))
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
func (w *splitWriter) tail(r io.Reader) error {
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

// finish returns when all lines are written. Nothing may follow.
func (w *splitWriter) finish() error {
	if w == nil {
		return nil
	}
	w.seen.Drop()
	return w.out.close()
}

// onlyWriter hides io.Discard's ReadFrom, which would use a small buffer.
type onlyWriter struct{ io.Writer }
