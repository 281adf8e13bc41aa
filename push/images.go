package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// document is a manifest or an index of a bundle.
type document struct {
	r         *bundle.Reader
	raw       []byte
	mediaType string
	wrap      func(v1.Layer) v1.Layer // what is known of where a layer is already
}

func (d *document) RawManifest() ([]byte, error)        { return d.raw, nil }
func (d *document) MediaType() (types.MediaType, error) { return types.MediaType(d.mediaType), nil }
func (d *document) Digest() (v1.Hash, error)            { return partial.Digest(d) }
func (d *document) Size() (int64, error)                { return partial.Size(d) }

// open returns another document of the bundle. The error is [bundle.ErrNotHere] if the
// bundle does not have it.
func (d *document) open(of digest.Digest) (*document, error) {
	raw, mediaType, err := d.r.Manifest(of)
	if err != nil {
		return nil, err
	}
	return &document{d.r, raw, mediaType, d.wrap}, nil
}

func (d *document) isIndex() bool { return types.MediaType(d.mediaType).IsIndex() }

// manifests returns the entries of an index, and none of a manifest.
func (d *document) manifests() ([]ocispec.Descriptor, error) {
	if !d.isIndex() {
		return nil, nil
	}
	var m ocispec.Index
	if err := json.Unmarshal(d.raw, &m); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err)
	}
	return m.Manifests, nil
}

// all returns the document and all that it leads to and the bundle has, each once.
func (d *document) all() (all []*document, err error) {
	all = append(all, d)
	list, err := d.manifests()
	if err != nil {
		return nil, err
	}
	seen := make(map[digest.Digest]bool)
	return all, image.Walk(list, func(e image.Entry) ([]ocispec.Descriptor, error) {
		if seen[e.Digest] {
			return nil, nil
		}
		seen[e.Digest] = true
		child, err := d.open(e.Digest)
		if errors.Is(err, bundle.ErrNotHere) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, child)
		return child.manifests()
	})
}

// manifest is an image.
type manifest struct{ *document }

// image returns a manifest as an image.
func (d *document) image() (v1.Image, error) {
	img, err := partial.CompressedToImage(manifest{d})
	if err != nil {
		return nil, err
	}
	return layered{img, d}, nil
}

func (m manifest) RawConfigFile() ([]byte, error) {
	parsed, err := partial.Manifest(m)
	if err != nil {
		return nil, err
	}
	b, err := m.r.Blob(digest.Digest(parsed.Config.Digest.String()))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(b, 8<<20))
}

func (m manifest) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	parsed, err := partial.Manifest(m)
	if err != nil {
		return nil, err
	}
	for _, d := range append([]v1.Descriptor{parsed.Config}, parsed.Layers...) {
		if d.Digest == h {
			return &layer{m.r, d}, nil
		}
	}
	return nil, fmt.Errorf("%s is no blob of the image", h)
}

// layered is an image whose layers say where else they are.
type layered struct {
	v1.Image
	d *document
}

func (l layered) Layers() ([]v1.Layer, error) {
	layers, err := l.Image.Layers()
	for i := range layers {
		layers[i] = l.d.wrap(layers[i])
	}
	return layers, err
}

// layer is a blob of a bundle.
type layer struct {
	r *bundle.Reader
	d v1.Descriptor
}

func (l *layer) Digest() (v1.Hash, error)            { return l.d.Digest, nil }
func (l *layer) Size() (int64, error)                { return l.d.Size, nil }
func (l *layer) MediaType() (types.MediaType, error) { return l.d.MediaType, nil }
func (l *layer) Descriptor() (*v1.Descriptor, error) { return &l.d, nil }

// Compressed opens the blob as it is. It is called only for one that the registry
// lacks.
func (l *layer) Compressed() (io.ReadCloser, error) {
	b, err := l.r.Blob(digest.Digest(l.d.Digest.String()))
	if since := l.r.Since(); errors.Is(err, bundle.ErrNotHere) && since != "" {
		return nil, fault.WithHint(fault.Wrap(fault.NotFound, fmt.Errorf("layer %w, nor in the registry: it was made by bundle --since", err)),
			"push the bundle that it builds on first: its index is %s", since)
	}
	if err != nil {
		return nil, err
	}
	return io.NopCloser(b), nil
}

// index is an index of images.
type index struct{ *document }

func (x index) IndexManifest() (*v1.IndexManifest, error) {
	var m v1.IndexManifest
	if err := json.Unmarshal(x.raw, &m); err != nil {
		return nil, err
	}
	return &m, nil
}

// Manifests are those that are in the bundle. The others are in the registry.
func (x index) Manifests() (list []partial.Describable, err error) {
	m, err := x.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, child := range m.Manifests {
		d, err := x.open(digest.Digest(child.Digest.String()))
		if errors.Is(err, bundle.ErrNotHere) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if d.isIndex() {
			list = append(list, index{d})
			continue
		}
		img, err := d.image()
		if err != nil {
			return nil, err
		}
		list = append(list, img)
	}
	return list, nil
}

func (x index) Image(h v1.Hash) (v1.Image, error) {
	d, err := x.open(digest.Digest(h.String()))
	if err != nil {
		return nil, err
	}
	return d.image()
}

func (x index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	d, err := x.open(digest.Digest(h.String()))
	if err != nil {
		return nil, err
	}
	return index{d}, nil
}
