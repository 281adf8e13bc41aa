package image

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
)

// Limits of what a tree opens, and keeps in memory. An image for thirty platforms has
// 60 manifests with their attestations.
const (
	maxOpened = 1000
	maxBytes  = 32 << 20 // of manifests and configs together
)

// Source is where a [Tree] gets its documents from.
type Source interface {
	// Manifest returns the bytes of a manifest or an index, which were verified, and its
	// media type.
	Manifest(ctx context.Context, d ocispec.Descriptor) (mediaType string, raw []byte, err error)
	// Config returns the bytes of an image's config, which were verified.
	Config(ctx context.Context, d ocispec.Descriptor) ([]byte, error)
}

// Document is a manifest or an index, parsed.
type Document struct {
	*Manifest // nil if it is neither an image nor an index
	MediaType string
	Digest    digest.Digest
	Bytes     []byte

	why error // why it is neither
}

// Type returns the media type for a descriptor of the image or index. It is the type with which
// the document came, if that type fits the document. Some registries serve manifests as
// application/json.
func (d *Document) Type() string {
	types := []string{ocispec.MediaTypeImageManifest, DockerManifest}
	if d.IsIndex() {
		types = []string{ocispec.MediaTypeImageIndex, DockerManifestList}
	}
	if slices.Contains(types, d.MediaType) {
		return d.MediaType
	}
	return types[0]
}

// Tree has the documents that a reference leads to: a manifest, or an index and everything below
// it. A Tree fetches each document once, when it is needed. It is not safe for concurrent use.
type Tree struct {
	Top *Document

	from    Source
	opened  map[digest.Digest]*Document
	missing map[digest.Digest]error
	configs map[digest.Digest][]byte
	bytes   int
}

// NewTree returns the tree of a manifest or an index, whose bytes came with the given
// media type. Errors are those of [ParseManifest].
func NewTree(from Source, mediaType string, d digest.Digest, raw []byte) (*Tree, error) {
	m, err := ParseManifest(mediaType, raw)
	if err != nil {
		return nil, err
	}
	return &Tree{
		Top: &Document{Manifest: m, MediaType: m.MediaType, Digest: d, Bytes: raw}, from: from, bytes: len(raw),
		opened: make(map[digest.Digest]*Document), missing: make(map[digest.Digest]error), configs: make(map[digest.Digest][]byte),
	}, nil
}

// Opened returns the document of a descriptor if it was fetched before, or nil.
func (t *Tree) Opened(d ocispec.Descriptor) *Document { return t.opened[d.Digest] }

// Open returns the document of a descriptor in the tree. A tree that leads to too much
// is an error of kind [fault.Failed].
func (t *Tree) Open(ctx context.Context, d ocispec.Descriptor) (*Document, error) {
	if doc, ok := t.opened[d.Digest]; ok {
		return doc, nil
	}
	if err, ok := t.missing[d.Digest]; ok {
		return nil, err
	}
	if len(t.opened)+len(t.missing) == maxOpened {
		return nil, fault.New(fault.Failed, "the index leads to more than %d manifests", maxOpened)
	}
	mediaType, raw, err := t.from.Manifest(ctx, d)
	if err != nil {
		if fault.KindOf(err) == fault.NotFound {
			t.missing[d.Digest] = err
		}
		return nil, err
	}
	if err := t.account(raw); err != nil {
		return nil, err
	}
	doc := &Document{MediaType: mediaType, Digest: d.Digest, Bytes: raw}
	doc.Manifest, doc.why = ParseManifest(mediaType, raw)
	if fault.KindOf(doc.why) == fault.Corrupt {
		return nil, doc.why
	}
	t.opened[d.Digest] = doc
	return doc, nil
}

// account adds to the bytes that the tree keeps.
func (t *Tree) account(data []byte) error {
	if t.bytes += len(data); t.bytes > maxBytes {
		return fault.New(fault.Failed, "the manifests and configs of the index have more than %d MiB", maxBytes>>20)
	}
	return nil
}

// Image fetches the config of an image in the tree, and joins it with its manifest. What
// the config does not say of the platform is taken from the entry.
func (t *Tree) Image(ctx context.Context, e Entry, doc *Document) (*Image, error) {
	if doc.Manifest == nil {
		return nil, doc.why
	}
	config, err := t.config(ctx, doc.Config)
	if err != nil {
		return nil, err
	}
	return joined(e, doc, config)
}

func (t *Tree) config(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if config, ok := t.configs[d.Digest]; ok {
		return config, nil
	}
	config, err := t.from.Config(ctx, d)
	if err != nil {
		return nil, err
	}
	if err := t.account(config); err != nil {
		return nil, err
	}
	t.configs[d.Digest] = config
	return config, nil
}

func joined(e Entry, doc *Document, config []byte) (*Image, error) {
	img, err := New(doc.Manifest, config)
	if err != nil {
		return nil, err
	}
	for _, p := range []*ocispec.Platform{e.Platform, e.Above} {
		if p != nil {
			img.Platform = Complete(img.Platform, *p)
		}
	}
	return img, nil
}
