package imagestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// maxDocument is the most bytes of a manifest or config that is read from containerd.
const maxDocument = 8 << 20

// documents gives a tree the documents that containerd has. They are verified: the content
// store is on a disk.
type documents struct{ c Containerd }

var _ image.Source = documents{}

func (s documents) read(ctx context.Context, d digest.Digest) ([]byte, error) {
	data, err := s.c.ReadBlob(ctx, d, maxDocument)
	switch {
	case errdefs.IsNotFound(err):
		return nil, fault.New(fault.NotFound, "containerd does not have %s", d)
	case err != nil:
		return nil, fmt.Errorf("read %s of containerd: %w", d, err)
	case d.Algorithm().FromBytes(data) != d:
		return nil, fault.New(fault.Corrupt, "containerd has %s, and it is damaged", d)
	}
	return data, nil
}

// Manifest implements [image.Source].
func (s documents) Manifest(ctx context.Context, d ocispec.Descriptor) (mediaType string, raw []byte, err error) {
	raw, err = s.read(ctx, d.Digest)
	return d.MediaType, raw, err
}

// Config implements [image.Source].
func (s documents) Config(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	return s.read(ctx, d.Digest)
}

// known is an image whose documents containerd has.
type known struct {
	img  *image.Image
	docs []*image.Document // the image's own first, and what names it last
}

// find returns the image of a digest for a platform. It is nil if containerd does not have
// all documents, or has them damaged.
func (s *store) find(ctx context.Context, found digest.Digest, want ocispec.Platform) (*known, error) {
	k, err := s.findAll(ctx, found, want)
	if kind := fault.KindOf(err); kind == fault.NotFound || kind == fault.Corrupt {
		return nil, nil
	}
	return k, err
}

func (s *store) findAll(ctx context.Context, found digest.Digest, want ocispec.Platform) (*known, error) {
	from := documents{s.c}
	raw, err := from.read(ctx, found)
	if err != nil {
		return nil, err
	}
	tree, err := image.NewTree(from, "", found, raw)
	if err != nil {
		return nil, err
	}
	leaf, err := tree.Select(ctx, want)
	if err != nil {
		return nil, err
	}
	img, err := tree.Image(ctx, leaf.Entry, leaf.Document)
	if err != nil {
		return nil, err
	}
	if image.Runs(want, img.Platform) == 0 {
		return nil, nil
	}
	var nested []*image.Document
	for _, d := range leaf.Entry.In {
		nested = append(nested, tree.Opened(ocispec.Descriptor{Digest: d}))
	}
	return &known{img, chain(leaf.Document, nested, tree.Top)}, nil
}

// chain returns the documents that lead to an image, its manifest first.
func chain(leaf *image.Document, nested []*image.Document, top *image.Document) []*image.Document {
	docs := []*image.Document{leaf}
	for i := len(nested) - 1; i >= 0; i-- {
		docs = append(docs, nested[i])
	}
	if top.Digest != docs[len(docs)-1].Digest {
		docs = append(docs, top)
	}
	return docs
}

// Lookup implements [destination.Destination].
func (s *store) Lookup(ctx context.Context, q destination.Query) (state destination.State, err error) {
	k, err := s.find(ctx, q.Found, q.Want)
	if err != nil {
		return state, err
	}
	img := q.Image
	if img == nil {
		if k == nil {
			return state, nil
		}
		img = k.img
	}
	missing, err := s.missing(ctx, img.Layers)
	if err != nil {
		return state, err
	}
	if q.Image != nil {
		state.Missing = missing
	}
	if k == nil || k.img.ID != img.ID || len(missing) > 0 {
		return state, nil
	}
	if whole, err := s.unpacked(ctx, img); !whole {
		return state, err
	}
	state.Image = k.img
	return state, nil
}

// missing returns the layers that have to be fetched, each diffID once: containerd lacks the
// blob, or with Options.Lean the blob and the snapshot.
func (s *store) missing(ctx context.Context, layers []image.Layer) (list []image.Layer, err error) {
	for _, l := range destination.Distinct(layers) {
		there, err := s.has(ctx, l.Blob.Digest)
		if !there && err == nil && s.lean {
			there, err = s.committed(ctx, l.ChainID)
		}
		if err != nil {
			return nil, fmt.Errorf("look for layer %s in containerd: %w", l.Blob.Digest, err)
		}
		if !there {
			list = append(list, l)
		}
	}
	return list, nil
}

// has reports whether a blob is in the content store.
func (s *store) has(ctx context.Context, d digest.Digest) (bool, error) {
	_, err := s.c.StatBlob(ctx, d)
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// committed reports whether a snapshot is there.
func (s *store) committed(ctx context.Context, chainID digest.Digest) (bool, error) {
	got, err := s.snaps.Stat(ctx, chainID.String())
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil && got.Committed, err
}

// unpacked reports whether containerd has the snapshots of an image. The topmost one keeps
// those below.
func (s *store) unpacked(ctx context.Context, img *image.Image) (bool, error) {
	if len(img.Layers) == 0 {
		return true, nil
	}
	return s.committed(ctx, top(img))
}

// top returns the chainID of an image's topmost layer, "" if it has none.
func top(img *image.Image) digest.Digest {
	if len(img.Layers) == 0 {
		return ""
	}
	return img.Layers[len(img.Layers)-1].ChainID
}

// leaseImage adds the blobs and the snapshot of an image to the lease. It reports whether all of
// them exist.
func (s *store) leaseImage(ctx context.Context, k *known) (bool, error) {
	blobs := []digest.Digest{k.img.ID}
	for _, doc := range k.docs {
		blobs = append(blobs, doc.Digest)
	}
	for _, l := range k.img.Layers {
		if !s.lean {
			blobs = append(blobs, l.Blob.Digest)
		}
	}
	for _, d := range blobs {
		if err := s.c.LeaseBlob(ctx, d); err != nil {
			return false, err
		}
		if there, err := s.has(ctx, d); !there {
			return false, err
		}
	}
	if id := top(k.img); id != "" {
		return s.leaseSnapshot(ctx, id)
	}
	return true, nil
}

// errNoDocument is the error of a reference that leads to documents which were not read.
var errNoDocument = errors.New("a document on the way to the image was not read")
