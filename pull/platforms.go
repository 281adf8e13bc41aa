package pull

import (
	"context"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// bundled is what a reference brings into a bundle.
type bundled struct {
	index  *registry.Manifest // nil for one manifest
	whole  bool               // all manifests of the index
	images []platformImage    // in the index's order
	docker int                // the one of them that Docker finds

	referrers []referrer // if they are wanted
}

// platformImage is one manifest of an image.
type platformImage struct {
	raw  registry.Manifest
	desc ocispec.Descriptor   // in the index
	img  *image.Image         // nil for what is no image for linux, and kept as it is
	also []ocispec.Descriptor // blobs of such a one
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
	own := platformImage{raw: im.own, img: im.img, desc: ocispec.Descriptor{Digest: im.own.Digest, Platform: &im.img.Platform}}
	if !im.top.IsIndex() || !r.Bundle.several() {
		return &bundled{images: []platformImage{own}}, nil
	}
	list, err := r.chosen(im)
	if err != nil {
		return nil, err
	}
	b := &bundled{index: &im.topRaw, whole: len(list) == len(im.top.Manifests)}
	for _, d := range list {
		p, err := r.platformImage(ctx, im.ref, d)
		if err != nil {
			return nil, err
		}
		if p == nil {
			b.whole = false
			continue
		}
		if p.raw.Digest == im.own.Digest {
			b.docker = len(b.images)
		}
		b.images = append(b.images, *p)
	}
	return b, nil
}

// chosen returns the descriptors of the platforms that are wanted, in the order
// of the index.
func (r *run) chosen(im *resolved) ([]ocispec.Descriptor, error) {
	if r.Bundle.All {
		return im.top.Manifests, nil
	}
	want := make(map[digest.Digest]bool)
	for _, p := range r.Bundle.Platforms {
		d, err := im.top.Select(p)
		if err != nil {
			return nil, err
		}
		want[d.Digest] = true
	}
	return slices.DeleteFunc(slices.Clone(im.top.Manifests), func(d ocispec.Descriptor) bool {
		was := want[d.Digest]
		delete(want, d.Digest) // an index may name one twice
		return !was
	}), nil
}

// platformImage fetches a manifest of an index, and the config that it names.
// What is not an image for linux is brought as it is where everything is kept as
// it is, and otherwise left out: then it is nil.
func (r *run) platformImage(ctx context.Context, ref registry.Reference, d ocispec.Descriptor) (*platformImage, error) {
	other := d.Platform != nil && d.Platform.OS != "linux"
	if other && r.Bundle.Layers != bundle.Keep {
		if d.Platform.OS != "unknown" { // as builders call what they say of an image
			r.Progress.Note("%s: left out is %s, fastpull handles images for linux", ref, image.FormatPlatform(*d.Platform))
		}
		return nil, nil
	}
	raw, err := r.src.ManifestOf(ctx, ref, d)
	if err != nil {
		return nil, err
	}
	p := &platformImage{raw: raw, desc: d}
	if other {
		p.also, err = image.Blobs(raw.Bytes)
		return p, err
	}
	m, err := image.ParseManifest(raw.MediaType, raw.Bytes)
	if err != nil {
		return nil, err
	}
	if m.IsIndex() {
		return nil, fault.New(fault.Failed, "the index has another index in it, %s", d.Digest)
	}
	p.img, err = r.config(ctx, ref, m)
	return p, err
}

// config fetches an image's config, and makes it whole.
func (r *run) config(ctx context.Context, ref registry.Reference, m *image.Manifest) (*image.Image, error) {
	config, err := r.src.ReadBlob(ctx, ref, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("fetch the image's config: %w", err)
	}
	return image.New(m, config)
}

// anyLinux returns the first manifest of an index that is for linux.
func anyLinux(m *image.Manifest) (ocispec.Descriptor, bool) {
	for _, d := range m.Manifests {
		if d.Platform != nil && d.Platform.OS == "linux" {
			return d, true
		}
	}
	return ocispec.Descriptor{}, false
}
