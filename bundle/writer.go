package bundle

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/image"
)

// Writer writes an archive. It is for one goroutine.
type Writer struct {
	tw     *tar.Writer
	blobs  map[digest.Digest]bool
	images []manifestItem
	buf    []byte
}

// manifestItem is an entry of manifest.json.
type manifestItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// NewWriter returns a Writer that writes to w.
func NewWriter(w io.Writer) *Writer {
	return &Writer{tw: tar.NewWriter(w), blobs: make(map[digest.Digest]bool), buf: make([]byte, 256<<10)}
}

// Layer writes a layer: size bytes of plain tar that hash to diffID, which the
// caller has verified. One that was written already is not written again.
func (w *Writer) Layer(diffID digest.Digest, size int64, r io.Reader) error {
	return w.blob(diffID, size, r)
}

// Image adds an image under the given tags ("host:5000/img:tag"). Its layers
// have been written, or are known to whoever reads the archive.
func (w *Writer) Image(img *image.Image, tags []string) error {
	item := manifestItem{Config: name(img.ID), RepoTags: tags, Layers: []string{}}
	if err := w.blob(img.ID, int64(len(img.Config)), bytes.NewReader(img.Config)); err != nil {
		return err
	}
	for _, l := range img.Layers {
		item.Layers = append(item.Layers, name(l.DiffID))
	}
	w.images = append(w.images, item)
	return nil
}

// Close writes manifest.json and ends the archive, but not what it is written to.
func (w *Writer) Close() error {
	if w.images == nil {
		w.images = []manifestItem{}
	}
	data, err := json.Marshal(w.images)
	if err != nil {
		return err
	}
	if err := w.file("manifest.json", int64(len(data)), bytes.NewReader(data)); err != nil {
		return err
	}
	return w.tw.Close()
}

func (w *Writer) blob(d digest.Digest, size int64, r io.Reader) error {
	if w.blobs[d] {
		return nil
	}
	if err := w.file(name(d), size, r); err != nil {
		return err
	}
	w.blobs[d] = true
	return nil
}

func (w *Writer) file(name string, size int64, r io.Reader) error {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644,
		ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	}
	if err := w.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	// The buffer would not be used if r were seen to be a file.
	if n, err := io.CopyBuffer(w.tw, struct{ io.Reader }{r}, w.buf); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	} else if n != size {
		return fmt.Errorf("write %s: %d bytes instead of %d", name, n, size)
	}
	return nil
}

func name(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }
