package source

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/registry"
)

// carried is a bundle.
type carried struct {
	r       *bundle.Reader
	entries map[registry.Reference]bundle.Entry
}

// Unnamed is the repository of images of a bundle that have no name.
const Unnamed = "localhost/unnamed"

// Bundle returns a bundle as a source, and the names of its images, each once and in its
// order. An image without a tag is named by the digest that its registry had for it, or by
// the digest that it has in the bundle.
func Bundle(r *bundle.Reader) (Source, []registry.Reference, error) {
	var refs []registry.Reference
	s := carried{r, make(map[registry.Reference]bundle.Entry)}
	for _, e := range r.Entries() {
		name := e.Reference()
		if name == "" {
			name = Unnamed + "@" + e.Descriptor.Digest.String()
		}
		ref, err := registry.ParseReference(name)
		if err != nil {
			return nil, nil, fault.Wrap(fault.Corrupt, fmt.Errorf("%s: %w", r.Name(), err))
		}
		if _, ok := s.entries[ref]; ok {
			continue
		}
		s.entries[ref] = e
		refs = append(refs, ref)
	}
	return s, refs, nil
}

func (s carried) from() string { return filepath.Base(s.r.Name()) }

func (s carried) Manifest(_ context.Context, ref registry.Reference) (registry.Manifest, error) {
	e, ok := s.entries[ref]
	if !ok {
		for _, e := range s.r.Referrers() {
			if e.Tag != "" && e.Tag == ref.Tag() {
				return s.manifest(e.Descriptor)
			}
		}
		return registry.Manifest{}, fault.WithHint(fault.New(fault.NotFound, "%s is not in %s", ref, s.r.Name()),
			"fastpull inspect %s lists what is", s.r.Name())
	}
	return s.manifest(e.Descriptor)
}

func (s carried) ManifestOf(_ context.Context, _ registry.Reference, d ocispec.Descriptor) (registry.Manifest, error) {
	return s.manifest(d)
}

func (s carried) Referrers(_ context.Context, _ registry.Reference, subject digest.Digest) (list []ocispec.Descriptor, err error) {
	for _, e := range s.r.Referrers() {
		if e.Subject == subject && e.Tag == "" {
			list = append(list, e.Descriptor)
		}
	}
	return list, nil
}

func (s carried) manifest(d ocispec.Descriptor) (registry.Manifest, error) {
	data, err := s.r.ReadBlob(d, d.Size)
	if err != nil {
		return registry.Manifest{}, fmt.Errorf("manifest of %s: %w", s.r.Name(), err)
	}
	return registry.Manifest{MediaType: d.MediaType, Digest: d.Digest, Bytes: data, From: s.from()}, nil
}

func (s carried) ReadBlob(_ context.Context, _ registry.Reference, d ocispec.Descriptor, limit int64) ([]byte, error) {
	return s.r.ReadBlob(d, limit)
}

// Resumable implements [fetch.Source]. The blobs stay in the bundle.
func (carried) Resumable(int64) bool { return false }

// Download implements [fetch.Source].
func (s carried) Download(_ context.Context, _ registry.Reference, d ocispec.Descriptor, _ registry.Target, _ func()) (fetch.Blob, error) {
	b, err := s.r.Blob(d.Digest)
	if since := s.r.Since(); err != nil && since != "" {
		return nil, fault.WithHint(fault.Wrap(fault.NotFound, fmt.Errorf("%w: it was made by bundle --since", err)),
			"load the bundle that it builds on first: its index is %s", since)
	}
	if err != nil {
		return nil, err
	}
	return &carriedBlob{r: b}, nil
}

func (s carried) Locate(context.Context, registry.Reference, ocispec.Descriptor) (string, error) {
	return s.from(), nil
}

func (s carried) Piece(_ context.Context, _ registry.Reference, d ocispec.Descriptor, first, n int64) ([]byte, error) {
	b, err := s.r.Blob(d.Digest)
	if err != nil {
		return nil, err
	}
	piece := make([]byte, n)
	_, err = io.ReadFull(io.NewSectionReader(b, first, n), piece)
	return piece, err
}

func (s carried) Near() bool { return true }

// carriedBlob is a blob of a bundle. Nothing removes it.
type carriedBlob struct {
	r *io.SectionReader
	n int64
}

func (b *carriedBlob) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	return n, err
}

func (b *carriedBlob) Fetched() int64             { return b.n }
func (b *carriedBlob) Came() <-chan struct{}      { return nil }
func (b *carriedBlob) Whole() (n int64, all bool) { return b.n, true }
func (b *carriedBlob) InSection() bool            { return false }
func (b *carriedBlob) Close() error               { return nil }
func (b *carriedBlob) Discard() error             { return nil }
func (b *carriedBlob) Distrust() error            { return nil }

func (b *carriedBlob) MoveTo(string, bool) (bool, error) { return false, nil }
