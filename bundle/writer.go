package bundle

import (
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/copying"
)

// Writer writes a bundle, or a docker-archive for an Engine: without entries, it writes no
// index.json and none of the files that go with it. It is for one goroutine.
type Writer struct {
	out      io.Writer
	file     output                         // out, if it is one
	single   *File                          // the same, if blobs can be reserved in it
	off      int64                          // bytes written
	blobs    map[digest.Digest]bool         // that are there
	reserved map[digest.Digest]*Reservation // all that were reserved
	entries  []ocispec.Descriptor
	images   []dockerImage
	since    digest.Digest
	index    digest.Digest // of index.json, once it is written
	zeroes   []byte
	broken   error // what was written halfway
}

// output is a file that can be changed where it was written already.
type output interface {
	io.Writer
	io.WriterAt
	Truncate(size int64) error // and go on there
}

// NewWriter returns a Writer that writes to w. If that is a [File], blobs may be
// written whose size is not known before; see [Writer.Stream].
func NewWriter(w io.Writer) *Writer {
	b := &Writer{
		out: w, blobs: make(map[digest.Digest]bool), reserved: make(map[digest.Digest]*Reservation),
		zeroes: make([]byte, 2*blockSize),
	}
	b.file, _ = w.(output)
	if f, ok := w.(*File); ok {
		if f.compressed() {
			b.file = nil
		}
		if f.single() {
			b.single = f
		}
	}
	return b
}

// Since notes that layers may be missing, since another bundle has them. index is the digest of
// that bundle's index.json.
func (w *Writer) Since(index digest.Digest) { w.since = index }

// Has reports whether a blob has been written.
func (w *Writer) Has(d digest.Digest) bool { return w.blobs[d] }

// Coming reports whether a blob is reserved, and not complete.
func (w *Writer) Coming(d digest.Digest) bool { return w.reserved[d] != nil && !w.blobs[d] }

// Blob writes size bytes whose digest is d; the caller has verified them. A blob that was
// written already, or that has a [Reservation], is not written.
func (w *Writer) Blob(d digest.Digest, size int64, r io.Reader) error {
	if w.blobs[d] || w.reserved[d] != nil {
		return nil
	}
	if err := w.member(blobName(d), size, r); err != nil {
		return err
	}
	w.blobs[d] = true
	return nil
}

// Docker adds an image to the list for Docker, under the given tags ("host:5000/img:tag"),
// with the blobs that are its layers. The caller has written config and layers, or the reader
// of the bundle has them.
func (w *Writer) Docker(img *image.Image, tags []string, layers []digest.Digest) {
	item := dockerImage{Config: blobName(img.ID), RepoTags: tags, Layers: []string{}}
	for _, d := range layers {
		item.Layers = append(item.Layers, blobName(d))
	}
	w.images = append(w.images, item)
}

// Entry adds an image to index.json: a manifest or an index. The caller has written it and
// everything that it names.
func (w *Writer) Entry(d ocispec.Descriptor) { w.entries = append(w.entries, d) }

// Close writes the lists and ends the bundle. It does not close the underlying writer.
func (w *Writer) Close() error {
	if err := w.closeGaps(); err != nil {
		return err
	}
	files, err := lists(w.entries, w.images, w.since)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.name == indexName {
			w.index = digest.FromBytes(f.data)
		}
		if err := w.member(f.name, int64(len(f.data)), bytesReader(f.data)); err != nil {
			return err
		}
	}
	return w.write(w.zeroes)
}

// Index returns the digest of index.json, after Close.
func (w *Writer) Index() digest.Digest { return w.index }

// member writes a file.
func (w *Writer) member(name string, size int64, r io.Reader) error {
	if w.broken != nil {
		return w.broken
	}
	h, err := header(name, size)
	if err == nil {
		err = w.write(h)
	}
	if err == nil {
		var n int64
		n, err = w.copy(r)
		w.off += n
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes instead of %d", n, size)
		}
	}
	if err == nil {
		err = w.write(w.zeroes[:padding(size)])
	}
	if err != nil {
		w.broken = fmt.Errorf("write %s: %w", name, err)
	}
	return w.broken
}

// copy lets the kernel do it where both ends are files.
func (w *Writer) copy(r io.Reader) (int64, error) {
	if to, ok := w.out.(io.ReaderFrom); ok {
		return to.ReadFrom(r)
	}
	return copying.Copy(w.out, r)
}

func (w *Writer) write(p []byte) error {
	n, err := w.out.Write(p)
	w.off += int64(n)
	return err
}

// Stream is a blob that is being written, and known only when it is.
type Stream struct {
	w     *Writer
	start int64
	n     int64
}

// Streams reports whether [Writer.Stream] can be used.
func (w *Writer) Streams() bool { return w.file != nil }

// Stream begins a blob whose size is not known. If its digest is not known either, d is "", and
// the digest will be a SHA-256. The caller must write nothing else before [Stream.Commit] or
// [Stream.Abort].
//
// Stream returns nil if the output cannot be changed after it was written, or if the header
// takes more than one block. Then the caller has to write the blob to a file first.
func (w *Writer) Stream(d digest.Digest) (*Stream, error) {
	if w.file == nil || d != "" && headerLen(d) != blockSize {
		return nil, nil
	}
	s := &Stream{w: w, start: w.off}
	return s, w.write(w.zeroes[:blockSize])
}

// Write writes more of the blob.
func (s *Stream) Write(p []byte) (int, error) {
	n, err := s.w.out.Write(p)
	s.w.off += int64(n)
	s.n += int64(n)
	return n, err
}

// Reset begins the blob anew.
func (s *Stream) Reset() error {
	s.n = 0
	s.w.off = s.start + blockSize
	return s.w.file.Truncate(s.w.off)
}

// Commit ends the blob: all that was written hashes to d, as the caller knows. A
// blob that the bundle has already is dropped.
func (s *Stream) Commit(d digest.Digest) (size int64, err error) {
	if s.w.blobs[d] {
		return s.n, s.Abort()
	}
	h, err := header(blobName(d), s.n)
	if err == nil && len(h) != blockSize {
		err = errors.New("its header has more than one block")
	}
	if err == nil {
		_, err = s.w.file.WriteAt(h, s.start)
	}
	if err == nil {
		err = s.w.write(s.w.zeroes[:padding(s.n)])
	}
	if err != nil {
		return s.n, errors.Join(fmt.Errorf("write %s: %w", blobName(d), err), s.Abort())
	}
	s.w.blobs[d] = true
	return s.n, nil
}

// Abort takes back what was written of the blob.
func (s *Stream) Abort() error {
	s.w.off = s.start
	return s.w.file.Truncate(s.start)
}
