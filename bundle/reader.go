package bundle

import (
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/internal/codec"
)

// Reader reads a bundle: the files of an archive, and the index of what they are. It is
// safe for concurrent use.
type Reader struct {
	*tarball
	*index
	name    string
	files   *joint // that were opened
	close   func() error
	changed func() error
}

// Close closes the files. Readers that [Reader.Blob] has returned fail from then on.
func (r *Reader) Close() error { return r.close() }

// Changed returns an error of kind [fault.Corrupt] if a file has been written to since the
// Reader opened it. Then an earlier verification means nothing.
func (r *Reader) Changed() error { return r.changed() }

// Name is what was opened.
func (r *Reader) Name() string { return r.name }

// IsIn reports whether the bundle is in that file, or a part of it is.
func (r *Reader) IsIn(file fs.FileInfo) bool {
	return slices.ContainsFunc(r.files.files, func(f *os.File) bool {
		st, err := f.Stat()
		return err == nil && os.SameFile(st, file)
	})
}

// Entries are the images, in the bundle's order.
func (r *Reader) Entries() []Entry { return r.entries }

// Index is the digest of index.json, "" if there is none.
func (r *Reader) Index() digest.Digest { return r.digest }

// Since is the digest of the index.json of the bundle that has the layers which this
// one lacks; "" if it lacks none.
func (r *Reader) Since() digest.Digest { return r.since }

// Layer is a layer of an image of a bundle.
type Layer struct {
	Blob   ocispec.Descriptor
	DiffID digest.Digest
}

// Layers are those of the bundle's images, each once. If it builds on another bundle
// it has not all of them itself.
func (r *Reader) Layers() (list []Layer) {
	for _, b := range r.blobs {
		if b.layer != nil {
			list = append(list, *b.layer)
		}
	}
	return list
}

// LayerType returns the media type of a layer in the format that its bytes have. Of a
// layer that is in another bundle the manifest says it. It is "" if the bytes cannot be
// read.
func (r *Reader) LayerType(l Layer) string {
	b, err := r.Blob(l.Blob.Digest)
	if err != nil {
		return l.Blob.MediaType
	}
	format, err := codec.Of(b)
	if err != nil {
		return ""
	}
	return format.MediaType()
}

// HasChain reports whether a host has the layer of this chainID after it has loaded the
// bundle and the bundles that it builds on.
func (r *Reader) HasChain(id digest.Digest) bool { return r.chains[id] }

// Size is how many bytes the archive has, decompressed.
func (r *Reader) Size() int64 { return r.src.Size() }

// Blob returns a blob, which is not verified. Each call returns a reader of its own,
// with a position of its own, and all of them may be used at the same time. The error
// is [ErrNotHere] if there is no such blob.
func (r *Reader) Blob(d digest.Digest) (*io.SectionReader, error) { return r.blob(d) }

// ReadBlob returns a blob of no more than limit bytes, verified.
func (r *Reader) ReadBlob(d ocispec.Descriptor, limit int64) ([]byte, error) {
	return r.readBlob(d, limit)
}

// MediaType returns the media type of a manifest or an index that an image of the
// bundle leads to, whose bytes are those of its [Reader.Blob]. The error is
// [ErrNotHere] if d is none.
func (r *Reader) MediaType(d digest.Digest) (string, error) {
	b, err := r.documentOf(d)
	if err != nil {
		return "", err
	}
	return b.mediaType, nil
}

// Manifest returns a manifest or an index that an image of the bundle leads to,
// verified, and its media type. The error is [ErrNotHere] if it is none.
func (r *Reader) Manifest(d digest.Digest) (raw []byte, mediaType string, err error) {
	b, err := r.documentOf(d)
	if err != nil {
		return nil, "", err
	}
	raw, err = r.readBlob(ocispec.Descriptor{Digest: d, Size: b.size}, maxDocument)
	return raw, b.mediaType, err
}
