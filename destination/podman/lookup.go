//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
)

// Lookup implements [destination.Destination].
func (s *store) Lookup(ctx context.Context, q destination.Query) (state destination.State, err error) {
	if !s.isOpen() {
		return destination.Nothing(q), nil
	}
	return locked(ctx, s, func() (destination.State, error) { return s.lookup(q) })
}

func (s *store) lookup(q destination.Query) (state destination.State, err error) {
	if q.Image != nil {
		state.Missing = s.missing(q.Image.Layers)
		if len(state.Missing) > 0 {
			return state, nil
		}
	}
	found, err := s.s.ImagesByDigest(q.Found)
	if err != nil && !errors.Is(err, storage.ErrImageUnknown) {
		return state, err
	}
	for _, rec := range found {
		img := s.image(rec, q.Found)
		if img == nil || q.Image != nil && img.ID != q.Image.ID || q.Image == nil && !image.IsFor(q.Want, img.Platform) {
			continue
		}
		if len(s.missing(img.Layers)) == 0 {
			return destination.State{Image: img}, nil
		}
	}
	return state, nil
}

// image returns the image of a record, nil if it is damaged, or was not completed: the library
// writes the record first, and then the documents. found is the digest that was asked for.
func (s *store) image(rec *storage.Image, found digest.Digest) *image.Image {
	for _, key := range []string{storage.ImageDigestBigDataKey, keyOf(found)} {
		if doc, err := s.s.ImageBigData(rec.ID, key); err != nil || len(doc) == 0 {
			return nil
		}
	}
	id, err := digest.Parse("sha256:" + rec.ID)
	if err != nil {
		return nil
	}
	config, err := s.s.ImageBigData(rec.ID, id.String())
	if err != nil || digest.FromBytes(config) != id {
		return nil
	}
	img, err := image.Parse(config)
	if err != nil {
		return nil
	}
	return img
}

// missing returns the layers that the store lacks, each diffID once.
func (s *store) missing(layers []image.Layer) []image.Layer {
	var list []image.Layer
	id := ""
	for _, l := range layers {
		id = layerID(id, l.DiffID)
		if _, err := s.s.Layer(id); err != nil {
			list = append(list, l)
		}
	}
	return destination.Distinct(list)
}

// knows reports whether the store has an image, by its digest.
func (s *store) knows(img *image.Image, found digest.Digest) bool {
	state, err := s.lookup(destination.Query{Found: found, Want: ocispec.Platform{}, Image: img})
	return err == nil && state.Image != nil
}
