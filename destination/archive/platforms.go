package archive

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// bundled is what a reference brings into a bundle.
type bundled struct {
	index  *image.Document   // nil for one manifest
	nested []*image.Document // the indexes in it
	whole  bool              // all manifests of the index, and of those in it
	images []platformImage   // in the index's order
	docker int               // the one of them that Docker finds

	referrers []referrer // if they are wanted
}

// platformImage is one manifest of an image.
type platformImage struct {
	raw  *image.Document
	desc ocispec.Descriptor   // in the index
	in   []digest.Digest      // the indexes in the index that lead to it
	img  *image.Image         // nil for what is no image for linux, and kept as it is
	also []ocispec.Descriptor // blobs of such a one
}

// bundled finds out what an image's name brings: the platform that was resolved,
// or as many as were asked for, and what refers to them.
func (a *archive) bundled(ctx context.Context, im *destination.Image) (b *bundled, err error) {
	if b, err = a.platforms(ctx, im); err == nil && a.o.Referrers {
		b.referrers, err = a.gather(ctx, im, b)
	}
	return b, err
}

func (a *archive) platforms(ctx context.Context, im *destination.Image) (*bundled, error) {
	own := platformImage{
		raw: im.Leaf.Document, img: im.Image, in: im.Leaf.Entry.In,
		desc: ocispec.Descriptor{Digest: im.Leaf.Digest, Platform: &im.Image.Platform},
	}
	if im.Tree == nil {
		return &bundled{images: []platformImage{own}}, nil
	}
	take, err := a.chosen(ctx, im)
	if err != nil {
		return nil, err
	}
	b := &bundled{index: im.Top, whole: true}
	err = image.Walk(im.Top.Manifests, func(e image.Entry) ([]ocispec.Descriptor, error) {
		if !take(e) {
			b.whole = false
			return nil, nil
		}
		doc, err := im.Tree.Open(ctx, e.Descriptor)
		if err != nil {
			return nil, err
		}
		if doc.Manifest != nil && doc.IsIndex() {
			b.nested = append(b.nested, doc)
			return doc.Manifests, nil
		}
		p, err := a.platformImage(ctx, im, e, doc)
		if err != nil {
			return nil, err
		}
		if p == nil {
			b.whole = false
			return nil, nil
		}
		if doc.Digest == im.Leaf.Digest {
			b.docker, p.img = len(b.images), im.Image
		}
		b.images = append(b.images, *p)
		return nil, nil
	})
	return b, err
}

// chosen returns a function that tells if an entry of the index is wanted, or leads to
// one that is.
func (a *archive) chosen(ctx context.Context, im *destination.Image) (func(image.Entry) bool, error) {
	if a.o.All {
		return func(e image.Entry) bool { return !a.leavesOut(im.Ref, e) }, nil
	}
	paths := make(map[string]bool)
	for _, p := range a.o.Platforms {
		leaf, err := im.Tree.Select(ctx, p)
		if err != nil {
			return nil, err
		}
		for n := range leaf.Entry.Path {
			paths[fmt.Sprint(leaf.Entry.Path[:n+1])] = true
		}
	}
	return func(e image.Entry) bool { return paths[fmt.Sprint(e.Path)] }, nil
}

// leavesOut reports whether an entry is no image for linux and is not kept either, and notes
// which image is left out.
func (a *archive) leavesOut(ref registry.Reference, e image.Entry) bool {
	switch {
	case a.pack.form == bundle.Keep:
		return false
	case e.Aside():
		return true // what builders say of an image is about its bytes in the registry
	case e.Platform == nil:
		return false
	}
	p := image.Normalize(*e.Platform)
	if p.OS != "linux" {
		a.env.Progress.Note("%s: left out is %s, fastpull handles images for linux", ref, image.FormatPlatform(p))
	}
	return p.OS != "linux"
}

// platformImage returns a manifest of an index with its config. What is no image for
// linux is brought as it is where everything is kept as it is, and otherwise left out:
// then it is nil.
func (a *archive) platformImage(ctx context.Context, im *destination.Image, e image.Entry, doc *image.Document) (_ *platformImage, err error) {
	p := &platformImage{raw: doc, desc: e.Flat(), in: e.In}
	other := e.Aside() || e.Platform != nil && image.Normalize(*e.Platform).OS != "linux" || e.Platform == nil && doc.Manifest == nil
	if !other {
		if p.img, err = im.Tree.Image(ctx, e, doc); err != nil {
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
	if a.pack.form != bundle.Keep {
		a.leavesOut(im.Ref, e)
		return nil, nil
	}
	p.img = nil
	p.also, err = image.Blobs(doc.Bytes)
	return p, err
}
