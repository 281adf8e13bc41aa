package source

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/registry"
)

// joined is several bundles.
type joined struct {
	all []Source
	of  map[registry.Reference]int // which of them has an image; the first if none has
}

// Bundles returns several bundles as one source, and the names of their images, each once. If
// several bundles have a name, the last bundle counts, as if they were loaded one after the
// other. If a bundle lacks a blob of its image, the blob comes from another one: a bundle may
// build on another.
func Bundles(list []*bundle.Reader) (Source, []registry.Reference, error) {
	if len(list) == 1 {
		return Bundle(list[0])
	}
	var refs []registry.Reference
	s := joined{of: make(map[registry.Reference]int)}
	for _, r := range list {
		one, names, err := Bundle(r)
		if err != nil {
			return nil, nil, err
		}
		s.all = append(s.all, one)
		for _, ref := range names {
			if _, ok := s.of[ref]; !ok {
				refs = append(refs, ref)
			}
			s.of[ref] = len(s.all) - 1
		}
	}
	return s, refs, nil
}

// from calls ask for the bundle that has an image. If that lacks the content, it calls ask for
// the other bundles. The error is that of the first call.
func from[T any](s joined, ref registry.Reference, ask func(Source) (T, error)) (got T, err error) {
	first := s.of[ref]
	if got, err = ask(s.all[first]); fault.KindOf(err) != fault.NotFound {
		return got, err
	}
	for i, other := range s.all {
		if i == first {
			continue
		}
		if found, oerr := ask(other); oerr == nil {
			return found, nil
		}
	}
	return got, err
}

func (s joined) Manifest(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	return from(s, ref, func(one Source) (registry.Manifest, error) { return one.Manifest(ctx, ref) })
}

func (s joined) ManifestOf(ctx context.Context, ref registry.Reference, d ocispec.Descriptor) (registry.Manifest, error) {
	return from(s, ref, func(one Source) (registry.Manifest, error) { return one.ManifestOf(ctx, ref, d) })
}

func (s joined) Referrers(ctx context.Context, ref registry.Reference, subject digest.Digest) ([]ocispec.Descriptor, error) {
	return from(s, ref, func(one Source) ([]ocispec.Descriptor, error) { return one.Referrers(ctx, ref, subject) })
}

func (s joined) ReadBlob(ctx context.Context, ref registry.Reference, d ocispec.Descriptor, limit int64) ([]byte, error) {
	return from(s, ref, func(one Source) ([]byte, error) { return one.ReadBlob(ctx, ref, d, limit) })
}

// Resumable implements [fetch.Source]. The blobs stay in the bundles.
func (joined) Resumable(int64) bool { return false }

// Download implements [fetch.Source].
func (s joined) Download(ctx context.Context, ref registry.Reference, d ocispec.Descriptor, in registry.Target, waiting func()) (fetch.Blob, error) {
	return from(s, ref, func(one Source) (fetch.Blob, error) { return one.Download(ctx, ref, d, in, waiting) })
}

func (s joined) Locate(ctx context.Context, ref registry.Reference, d ocispec.Descriptor) (string, error) {
	return from(s, ref, func(one Source) (string, error) { return one.Locate(ctx, ref, d) })
}

func (s joined) Piece(ctx context.Context, ref registry.Reference, d ocispec.Descriptor, first, n int64) ([]byte, error) {
	return from(s, ref, func(one Source) ([]byte, error) { return one.Piece(ctx, ref, d, first, n) })
}

// Near implements [Source].
func (joined) Near() bool { return true }
