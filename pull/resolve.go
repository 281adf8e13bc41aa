package pull

import (
	"context"
	"errors"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/source"
)

// resolved is what a reference names.
type resolved struct {
	destination.Image
	whole   bool                 // the destination has it, and has given it the reference's names
	from    string               // the host that knew the reference
	blobs   []ocispec.Descriptor // of its layers, if they are known
	missing []image.Layer        // those that the destination lacks
}

// resolve finds out which image a reference names, and what the destination has of it. An
// image that the destination has gets the reference's names.
func (r *run) resolve(ctx context.Context, nth int, ref registry.Reference) (*resolved, error) {
	select {
	case r.looking <- struct{}{}:
		defer func() { <-r.looking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	want := r.info.Platform
	if r.Platform != nil {
		want = *r.Platform
	}
	got, err := r.Source.Manifest(ctx, ref)
	if err != nil {
		return nil, err
	}
	im := &resolved{from: got.From}
	im.Ref, im.Found, im.Nth = ref, got.Digest, nth
	tree, err := source.Tree(r.Source, ref, got)
	if err != nil {
		return im, err
	}
	im.blobs = tree.Top.Layers
	if err := r.look(ctx, im, want); im.whole || err != nil {
		if im.whole && r.DryRun && tree.Top.IsIndex() {
			// The index is known there, but not how much that is.
			if leaf, err := tree.Select(ctx, want); err == nil {
				im.blobs = leaf.Layers
			}
		}
		return im, err
	}
	if im.Leaf, err = tree.Select(ctx, want); fault.KindOf(err) == fault.NotFound && r.AllPlatforms {
		// Any that runs on some machine: the one that Docker finds in the archive.
		if first, ferr := tree.Select(ctx, anyLinux); ferr == nil {
			im.Leaf, want, err = first, anyLinux, nil
		}
	}
	if err != nil {
		return im, err
	}
	im.blobs = im.Leaf.Layers
	if warm, ok := r.Source.(warmer); ok && !r.DryRun {
		warm.Warm(ctx, ref, len(im.blobs)+1) // while the config is fetched
	}
	for _, d := range im.Leaf.Entry.In {
		im.Nested = append(im.Nested, tree.Opened(ocispec.Descriptor{Digest: d}))
	}
	img, err := tree.Image(ctx, im.Leaf.Entry, im.Leaf.Document)
	if err != nil {
		return im, err
	}
	if err := r.fits(ref, img, want); err != nil {
		return im, err
	}
	if err := r.to.Check(img); err != nil {
		return im, err
	}
	im.Image.Image, im.Top = completed(img, want), tree.Top
	if tree.Top.IsIndex() && r.several() {
		im.Tree = tree
	}
	return im, r.look(ctx, im, want)
}

// warmer is a source that can open connections before there are requests for them.
type warmer interface {
	Warm(ctx context.Context, ref registry.Reference, n int)
}

// look asks the destination for an image. One that it has gets the reference's names.
func (r *run) look(ctx context.Context, im *resolved, want ocispec.Platform) error {
	state, err := r.to.Lookup(ctx, destination.Query{Ref: im.Ref, Found: im.Found, Want: want, Image: im.Image.Image})
	if err != nil {
		return err
	}
	im.missing = state.Missing
	if state.Image == nil {
		return nil
	}
	have := im.Image
	have.Image = completed(state.Image, want)
	if !r.DryRun {
		tx, err := r.to.Begin(ctx, &have)
		if err == nil {
			err = tx.Commit(ctx)
		}
		if errors.Is(err, destination.ErrGone) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	im.Image, im.whole = have, true
	return nil
}

// anyLinux is the platform that stands for all on which linux runs.
var anyLinux = ocispec.Platform{OS: "linux"}

// completed returns an image with the wanted architecture if its config names none.
func completed(img *image.Image, want ocispec.Platform) *image.Image {
	whole := *img
	whole.Platform = image.Complete(img.Platform, want)
	return &whole
}

// fits checks the platform that an image's config names.
func (r *run) fits(ref registry.Reference, img *image.Image, want ocispec.Platform) error {
	have := img.Platform
	if have.OS != "linux" {
		return fault.New(fault.Failed, "the image is for %s, fastpull handles images for linux", image.FormatPlatform(have))
	}
	if image.Runs(want, have) > 0 {
		if want := image.Normalize(want); have.Architecture != "" && want.Architecture != "" && have.Architecture != want.Architecture {
			r.Progress.Note("%s is for %s, which %s runs as a rule", ref, image.FormatPlatform(have), image.FormatPlatform(want))
		}
		return nil
	}
	for _, p := range r.Platforms {
		if image.Runs(p, have) > 0 {
			return nil
		}
	}
	if r.Platform != nil {
		return fault.New(fault.NotFound, "there is no image for %s, only for %s", image.FormatPlatform(want), image.FormatPlatform(have))
	}
	r.Progress.Warn("%s is for %s, and this destination is %s", ref, image.FormatPlatform(have), image.FormatPlatform(want))
	return nil
}
