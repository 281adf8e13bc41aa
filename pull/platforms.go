package pull

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// bundled is what a reference brings into a bundle.
type bundled struct {
	index  *registry.Manifest  // nil for one manifest
	nested []registry.Manifest // the indexes in it
	whole  bool                // all manifests of the index, and of those in it
	images []platformImage     // in the index's order
	docker int                 // the one of them that Docker finds

	referrers []referrer // if they are wanted
}

// platformImage is one manifest of an image.
type platformImage struct {
	raw  registry.Manifest
	desc ocispec.Descriptor   // in the index
	in   []digest.Digest      // the indexes in the index that lead to it
	img  *image.Image         // nil for what is no image for linux, and kept as it is
	also []ocispec.Descriptor // blobs of such a one
}

// rawOf returns a document of a tree as its source gave it.
func rawOf(doc *image.Document) registry.Manifest {
	return registry.Manifest{MediaType: doc.MediaType, Digest: doc.Digest, Bytes: doc.Bytes}
}

// several tells if more than one platform of an image is wanted.
func (o *BundleOptions) several() bool { return o.All || len(o.Platforms) > 1 }

// bundled finds out what an image's name brings: the platform that was resolved,
// or as many as were asked for, and what refers to them.
func (r *run) bundled(ctx context.Context, im *resolved) (b *bundled, err error) {
	if b, err = r.platforms(ctx, im); err == nil && r.Bundle.Referrers {
		b.referrers, err = r.gather(ctx, im, b)
	}
	return b, err
}

func (r *run) platforms(ctx context.Context, im *resolved) (*bundled, error) {
	own := platformImage{
		raw: im.own, img: im.img, in: im.entry.In,
		desc: ocispec.Descriptor{Digest: im.own.Digest, Platform: &im.img.Platform},
	}
	if im.tree == nil {
		return &bundled{images: []platformImage{own}}, nil
	}
	take, err := r.chosen(ctx, im)
	if err != nil {
		return nil, err
	}
	b := &bundled{index: &im.topRaw, whole: true}
	err = image.Walk(im.top.Manifests, func(e image.Entry) ([]ocispec.Descriptor, error) {
		if !take(e) {
			b.whole = false
			return nil, nil
		}
		doc, err := im.tree.Open(ctx, e.Descriptor)
		if err != nil {
			return nil, err
		}
		if doc.Manifest != nil && doc.IsIndex() {
			b.nested = append(b.nested, rawOf(doc))
			return doc.Manifests, nil
		}
		p, err := r.platformImage(ctx, im, e, doc)
		if err != nil {
			return nil, err
		}
		if p == nil {
			b.whole = false
			return nil, nil
		}
		if doc.Digest == im.own.Digest {
			b.docker, p.img = len(b.images), im.img
		}
		b.images = append(b.images, *p)
		return nil, nil
	})
	return b, err
}

// chosen returns a function that tells if an entry of the index is wanted, or leads to
// one that is.
func (r *run) chosen(ctx context.Context, im *resolved) (func(image.Entry) bool, error) {
	if r.Bundle.All {
		return func(e image.Entry) bool { return !r.leavesOut(im.ref, e) }, nil
	}
	paths := make(map[string]bool)
	for _, p := range r.Bundle.Platforms {
		leaf, err := im.tree.Select(ctx, p)
		if err != nil {
			return nil, err
		}
		for n := range leaf.Entry.Path {
			paths[fmt.Sprint(leaf.Entry.Path[:n+1])] = true
		}
	}
	return func(e image.Entry) bool { return paths[fmt.Sprint(e.Path)] }, nil
}

// leavesOut tells if an entry is no image for linux and is not kept either, and notes
// which image is left out.
func (r *run) leavesOut(ref registry.Reference, e image.Entry) bool {
	switch {
	case r.Bundle.Layers == bundle.Keep:
		return false
	case e.Aside():
		return true // what builders say of an image is about its bytes in the registry
	case e.Platform == nil:
		return false
	}
	p := image.Normalize(*e.Platform)
	if p.OS != "linux" {
		r.Progress.Note("%s: left out is %s, fastpull handles images for linux", ref, image.FormatPlatform(p))
	}
	return p.OS != "linux"
}

// platformImage returns a manifest of an index with its config. What is no image for
// linux is brought as it is where everything is kept as it is, and otherwise left out:
// then it is nil.
func (r *run) platformImage(ctx context.Context, im *resolved, e image.Entry, doc *image.Document) (_ *platformImage, err error) {
	p := &platformImage{raw: rawOf(doc), desc: e.Flat(), in: e.In}
	other := e.Aside() || e.Platform != nil && image.Normalize(*e.Platform).OS != "linux" || e.Platform == nil && doc.Manifest == nil
	if !other {
		if p.img, err = im.tree.Image(ctx, e, doc); err != nil {
			return nil, err
		}
		if p.desc.Platform == nil || p.desc.Platform.Architecture == "" {
			p.desc.Platform = &p.img.Platform
		}
		if p.img.Platform.OS == "linux" {
			return p, nil
		}
		e.Platform = &p.img.Platform
	}
	if r.Bundle.Layers != bundle.Keep {
		r.leavesOut(im.ref, e)
		return nil, nil
	}
	p.img = nil
	p.also, err = image.Blobs(doc.Bytes)
	return p, err
}
