package bundle

import (
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// index says what a bundle has: its images, what refers to them, and the blobs that they
// name. It does not change after [parse] has made it.
type index struct {
	digest    digest.Digest // of index.json, "" if there is none
	since     digest.Digest
	entries   []Entry
	referrers []Entry
	blobs     map[digest.Digest]*blob // those that images and referrers name
	chains    map[digest.Digest]bool  // chainIDs of images
}

// blob is what images and referrers say of a blob.
type blob struct {
	size      int64
	document  bool          // it is a manifest or an index
	mediaType string        // of a document
	layer     *Layer        // it is a layer of an image
	neededBy  digest.Digest // the referrer that has it, "" for none
}

func newIndex() *index {
	return &index{blobs: make(map[digest.Digest]*blob), chains: make(map[digest.Digest]bool)}
}

// layer returns the layer that a blob is, nil if it is none.
func (x *index) layer(d digest.Digest) *Layer {
	if b := x.blobs[d]; b != nil {
		return b.layer
	}
	return nil
}

// documentOf returns the blob that is a manifest or an index. The error is [ErrNotHere] if d
// is none.
func (x *index) documentOf(d digest.Digest) (*blob, error) {
	if b := x.blobs[d]; b != nil && b.document {
		return b, nil
	}
	return nil, fault.Wrap(fault.NotFound, fmt.Errorf("%s: %w", d, ErrNotHere))
}

// missing returns errors for the blobs that are named and have no content in the archive.
// A layer may be in the bundle that this one builds on.
func (x *index) missing(a *tarball) (errs []error) {
	for _, d := range slices.Sorted(maps.Keys(x.blobs)) {
		if a.has(d) {
			continue
		}
		b := x.blobs[d]
		if b.layer != nil && x.since == "" {
			errs = append(errs, fault.New(fault.Corrupt, "layer %s is missing in it", d))
		}
		if b.neededBy != "" {
			errs = append(errs, fault.New(fault.Corrupt, "blob %s of %s, which refers to an image, is missing in it", d, b.neededBy))
		}
	}
	return errs
}
