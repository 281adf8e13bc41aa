// Package source says where images come from: registries, or a bundle.
package source

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// Source is a source of images. [registry.Client] has the rules of its methods. A Source is safe
// for concurrent use.
type Source interface {
	fetch.Source
	Manifest(ctx context.Context, ref registry.Reference) (registry.Manifest, error)
	ManifestOf(ctx context.Context, ref registry.Reference, d ocispec.Descriptor) (registry.Manifest, error)
	Referrers(ctx context.Context, ref registry.Reference, subject digest.Digest) ([]ocispec.Descriptor, error)
	ReadBlob(ctx context.Context, ref registry.Reference, d ocispec.Descriptor, limit int64) ([]byte, error)
	Locate(ctx context.Context, ref registry.Reference, d ocispec.Descriptor) (from string, err error)
	// Piece returns n bytes of a blob, from first on. Nothing is verified.
	Piece(ctx context.Context, ref registry.Reference, d ocispec.Descriptor, first, n int64) ([]byte, error)
	// Near reports whether all blobs are on this machine, so that nothing is gained by
	// fetching them before they are used.
	Near() bool
}

// Registries returns the registries that a client reaches.
func Registries(c *registry.Client) Source { return registries{c} }

type registries struct{ *registry.Client }

// Near implements [Source].
func (registries) Near() bool { return false }

// Download implements [fetch.Source].
func (s registries) Download(ctx context.Context, ref registry.Reference, d ocispec.Descriptor, in registry.Target, waiting func()) (fetch.Blob, error) {
	k, err := s.Client.Download(ctx, ref, d, in, waiting)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Tree returns the tree below top, the manifest or index that a reference names. Its documents
// come from s.
func Tree(s Source, ref registry.Reference, top registry.Manifest) (*image.Tree, error) {
	return image.NewTree(documents{s, ref}, top.MediaType, top.Digest, top.Bytes)
}

// maxConfig is the most bytes that an image's config may have.
const maxConfig = 8 << 20

// Config fetches an image's config.
func Config(ctx context.Context, s Source, ref registry.Reference, d ocispec.Descriptor) ([]byte, error) {
	config, err := s.ReadBlob(ctx, ref, d, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("fetch the image's config: %w", err)
	}
	return config, nil
}

// documents gives a tree the manifests and configs of a reference's repository.
type documents struct {
	from Source
	ref  registry.Reference
}

var _ image.Source = documents{}

// Manifest implements [image.Source].
func (s documents) Manifest(ctx context.Context, d ocispec.Descriptor) (mediaType string, raw []byte, err error) {
	m, err := s.from.ManifestOf(ctx, s.ref, d)
	return m.MediaType, m.Bytes, err
}

// Config implements [image.Source].
func (s documents) Config(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	return Config(ctx, s.from, s.ref, d)
}
