package archive

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// What a registry may make us take along beside an image.
const (
	referrerDepth     = 4        // of what refers to what refers to …
	referrerCount     = 1000     // of an image
	referrerManifests = 32 << 20 // bytes of their manifests, which are in memory
	referrerBytes     = 4 << 30  // and of their blobs
	referrerAsks      = 8        // questions at a time
)

// draftArtifact is a type that OCI gave up before 1.1. Registries do not take it.
const draftArtifact = "application/vnd.oci.artifact.manifest.v1+json"

// referrer is what refers to an image, or to another referrer: a signature, an SBOM.
type referrer struct {
	entry bundle.Entry
	list  bundle.ListReferrer
	docs  [][]byte             // its manifest, and those that it names if it is an index
	blobs []ocispec.Descriptor // of all of them
}

// gatherer finds the referrers of an image.
type gatherer struct {
	a   *archive
	ref registry.Reference

	mu        sync.Mutex
	count     int
	manifests int64
	blobs     map[digest.Digest]int64
}

// gather finds what refers to the manifests of an image that the bundle has with
// their digests, level by level. The order depends on their digests alone.
func (a *archive) gather(ctx context.Context, im *destination.Image, b *bundled) (all []referrer, err error) {
	g := &gatherer{a: a, ref: im.Ref, blobs: make(map[digest.Digest]int64)}
	var level []digest.Digest
	if b.index != nil && b.whole {
		level = append(level, b.index.Digest)
		for _, doc := range b.nested {
			level = append(level, doc.Digest)
		}
	} else if im.Top.IsIndex() {
		if err := g.unkept(ctx, im.Found, b); err != nil {
			return nil, err
		}
	}
	for _, p := range b.images {
		level = append(level, p.raw.Digest)
	}
	asked := make(map[digest.Digest]bool)
	for depth := 0; len(level) > 0; depth++ {
		var subjects []digest.Digest
		for _, d := range level {
			if !asked[d] {
				asked[d] = true
				subjects = append(subjects, d)
			}
		}
		found := make([][]referrer, len(subjects))
		eg, ctx := errgroup.WithContext(ctx)
		eg.SetLimit(referrerAsks)
		for i, d := range subjects {
			eg.Go(func() (err error) {
				found[i], err = g.of(ctx, d)
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return nil, err
		}
		level = nil
		for _, list := range found {
			all = append(all, list...)
			for _, f := range list {
				level = append(level, f.entry.Descriptor.Digest)
			}
		}
		if depth == referrerDepth && len(level) > 0 {
			return nil, fault.New(fault.Failed, "what refers to it goes more than %d levels deep, to %s", referrerDepth, level[0])
		}
	}
	return all, nil
}

// unkept warns of what refers to an index, or to one in it, and stays behind since the
// bundle does not have that.
func (g *gatherer) unkept(ctx context.Context, index digest.Digest, b *bundled) error {
	indexes := []digest.Digest{index}
	for _, p := range b.images {
		for _, d := range p.in {
			if !slices.Contains(indexes, d) {
				indexes = append(indexes, d)
			}
		}
	}
	n := 0
	for _, d := range indexes {
		list, err := g.listed(ctx, d)
		if err != nil {
			return err
		}
		n += len(list)
	}
	if n > 0 {
		g.a.env.Progress.Warn("%s: %d that refer to its index are left out, as the bundle has not all of its platforms: --platform all keeps it", g.ref, n)
	}
	return nil
}

// named is a referrer that has not been fetched.
type named struct {
	desc ocispec.Descriptor
	tag  string
}

// listed asks what refers to a manifest: those that say so, and those that have
// cosign's tags.
func (g *gatherer) listed(ctx context.Context, subject digest.Digest) (all []named, err error) {
	list, err := g.a.env.Source.Referrers(ctx, g.ref, subject)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		all = append(all, named{desc: d})
	}
	for _, tag := range bundle.CosignTags(subject) {
		m, err := g.a.env.Source.Manifest(ctx, g.ref.WithTag(tag))
		if fault.KindOf(err) == fault.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, named{ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes))}, tag})
	}
	return all, nil
}

// of fetches the manifests of what refers to a manifest.
func (g *gatherer) of(ctx context.Context, subject digest.Digest) (found []referrer, err error) {
	list, err := g.listed(ctx, subject)
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if n.desc.MediaType == draftArtifact {
			g.a.env.Progress.Warn("%s: %s is left out: it is of a type that OCI gave up, %s", g.ref, n.desc.Digest, draftArtifact)
			continue
		}
		f := referrer{}
		a, err := g.fetch(ctx, &f, n.desc)
		if err != nil {
			return nil, fmt.Errorf("%s, which refers to %s: %w", n.desc.Digest, subject, err)
		}
		if n.tag == "" && a.Subject != subject {
			g.a.env.Progress.Warn("%s: %s is left out: it is listed as referring to %s, and does not say so itself", g.ref, n.desc.Digest, subject)
			continue
		}
		f.entry = bundle.Entry{
			Source: g.ref.Full() + "@" + n.desc.Digest.String(), Descriptor: a.Descriptor, Subject: subject, Tag: n.tag,
		}
		f.list = bundle.NewListReferrer(f.entry, a)
		found = append(found, f)
	}
	return found, nil
}

// fetch fetches a manifest, and those that it leads to.
func (g *gatherer) fetch(ctx context.Context, f *referrer, d ocispec.Descriptor) (*image.Artifact, error) {
	a, err := g.document(ctx, f, d)
	if err != nil {
		return nil, err
	}
	seen := make(map[digest.Digest]bool)
	return a, image.Walk(a.Manifests, func(e image.Entry) ([]ocispec.Descriptor, error) {
		if seen[e.Digest] {
			return nil, nil
		}
		seen[e.Digest] = true
		below, err := g.document(ctx, f, e.Descriptor)
		if err != nil {
			return nil, err
		}
		return below.Manifests, nil
	})
}

// document fetches one manifest.
func (g *gatherer) document(ctx context.Context, f *referrer, d ocispec.Descriptor) (*image.Artifact, error) {
	m, err := g.a.env.Source.ManifestOf(ctx, g.ref, d)
	if err != nil {
		return nil, err
	}
	a, err := image.ParseArtifact(m.MediaType, m.Bytes)
	if err != nil {
		return nil, err
	}
	if err := g.account(m, a); err != nil {
		return nil, err
	}
	f.docs = append(f.docs, m.Bytes)
	f.blobs = append(f.blobs, a.Blobs...)
	return a, nil
}

// account counts the referrers and their bytes, and returns an error if there are too many.
func (g *gatherer) account(m registry.Manifest, a *image.Artifact) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count++
	g.manifests += int64(len(m.Bytes))
	for _, b := range a.Blobs {
		g.blobs[b.Digest] = b.Size
	}
	var blobs int64
	for _, n := range g.blobs {
		if blobs += n; blobs > referrerBytes || blobs < 0 {
			break
		}
	}
	if g.count > referrerCount || g.manifests > referrerManifests || blobs > referrerBytes || blobs < 0 {
		return fault.WithHint(fault.New(fault.Failed, "more than %d manifests of %d bytes with blobs of %d refer to the image",
			referrerCount, referrerManifests, int64(referrerBytes)), "make the bundle without --referrers")
	}
	return nil
}
