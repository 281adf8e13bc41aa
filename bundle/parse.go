package bundle

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/jsonlimit"
)

// maxNamed is the most blobs, manifests included, that an index may name.
const maxNamed = 1 << 16

// parser makes the index of an archive. It reads index.json, or what it needs for one of
// manifest.json, and then every manifest and config that an image or a referrer leads to.
type parser struct {
	*tarball
	*index
}

// parse returns the index of an archive.
func parse(ctx context.Context, a *tarball) (*index, error) {
	p := &parser{a, newIndex()}
	if err := p.readLists(ctx); err != nil {
		return nil, err
	}
	for _, e := range p.entries {
		if err := walk(e.Descriptor, p.visit); err != nil {
			return nil, incomplete(err)
		}
	}
	for _, e := range p.referrers {
		if err := walk(e.Descriptor, p.visitReferrer); err != nil {
			return nil, incomplete(err)
		}
	}
	return p.index, nil
}

// readLists reads index.json, or else manifest.json.
func (p *parser) readLists(ctx context.Context) error {
	if _, ok := p.find(indexName); !ok {
		return p.readDocker(ctx)
	}
	if err := p.readIndex(); err != nil {
		return err
	}
	return p.adoptReferrers()
}

// incomplete makes a missing blob that the archive itself names an error of kind
// [fault.Corrupt].
func incomplete(err error) error {
	if errors.Is(err, ErrNotHere) {
		return fault.Wrap(fault.Corrupt, err)
	}
	return err
}

// readIndex reads what index.json names.
func (p *parser) readIndex() error {
	data, err := p.document(indexName)
	if err != nil {
		return err
	}
	index, err := image.ParseManifest(ocispec.MediaTypeImageIndex, data)
	if err != nil {
		return fmt.Errorf("%s: %w", indexName, err)
	}
	var top ocispec.Index
	if err := jsonlimit.Unmarshal(data, &top); err != nil {
		return fault.New(fault.Corrupt, "%s: %w", indexName, err)
	}
	p.digest, p.since = digest.FromBytes(data), digest.Digest(top.Annotations[annotationSince])
	if p.since != "" && p.since.Validate() != nil {
		return fault.New(fault.Corrupt, "%s: it builds on %q, which is no digest", indexName, p.since)
	}
	sizes := make(map[digest.Digest]int64)
	for _, d := range index.Manifests {
		if size, known := sizes[d.Digest]; known && size != d.Size {
			return fmt.Errorf("%s: %w", indexName, twoSizes(d.Digest, size, d.Size))
		}
		sizes[d.Digest] = d.Size
		e := entryOf(d)
		if e.Subject == "" {
			p.entries = append(p.entries, e)
			continue
		}
		if err := checkReferrer(e); err != nil {
			return err
		}
		p.referrers = append(p.referrers, e)
	}
	return nil
}

// walk calls visit for a descriptor and for everything that it leads to. visit returns the
// descriptors of an index. below is set for a descriptor that is in an index.
func walk(top ocispec.Descriptor, visit func(d ocispec.Descriptor, below bool) ([]ocispec.Descriptor, error)) error {
	list, err := visit(top, false)
	if err != nil {
		return err
	}
	return image.Walk(list, func(e image.Entry) ([]ocispec.Descriptor, error) { return visit(e.Flat(), true) })
}

// newDocument returns the bytes of a manifest or an index, verified. They are nil if it
// was seen before, or if it is in an index and not in the bundle.
func (p *parser) newDocument(d ocispec.Descriptor, below bool) ([]byte, error) {
	if len(p.blobs) > maxNamed {
		return nil, fault.New(fault.Corrupt, "its images name more than %d blobs and manifests", maxNamed)
	}
	_, known, err := p.note(d)
	if err != nil || known {
		return nil, err
	}
	data, err := p.readBlob(d, maxDocument)
	if errors.Is(err, ErrNotHere) && below {
		return nil, nil
	}
	return data, err
}

// visit verifies a manifest or an index, and notes the blobs that it names.
func (p *parser) visit(d ocispec.Descriptor, below bool) ([]ocispec.Descriptor, error) {
	data, err := p.newDocument(d, below)
	if data == nil {
		return nil, err
	}
	p.isDocument(d.Digest, d.MediaType)
	if m, err := image.ParseManifest(d.MediaType, data); err == nil && m.IsIndex() {
		return m.Manifests, nil
	} else if err == nil {
		return nil, p.walkImage(m)
	} else if fault.KindOf(err) == fault.Corrupt {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	blobs, err := image.Blobs(data) // of an artifact
	for _, b := range blobs {
		if err == nil {
			_, _, err = p.note(b)
		}
	}
	return nil, err
}

// walkImage notes the config, the layers and the chainIDs of an image.
func (p *parser) walkImage(m *image.Manifest) error {
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if _, _, err := p.note(b); err != nil {
			return err
		}
	}
	config, err := p.readBlob(m.Config, maxDocument)
	if err != nil {
		return err
	}
	img, err := image.New(m, config)
	if err != nil {
		return err
	}
	for _, l := range img.Layers {
		b := p.blobs[l.Blob.Digest]
		if old := b.layer; old != nil && old.DiffID != l.DiffID {
			return fault.New(fault.Corrupt, "layer %s has the diffID %s in one image and %s in another", l.Blob.Digest, old.DiffID, l.DiffID)
		}
		p.chains[l.ChainID] = true
		b.layer = &Layer{l.Blob, l.DiffID}
	}
	return nil
}

// note records the size that a descriptor gives a blob. All descriptors of a blob must
// give it the same size, the one that it has. known reports whether there was one before.
func (p *parser) note(d ocispec.Descriptor) (b *blob, known bool, err error) {
	b, known = p.blobs[d.Digest]
	if known && b.size != d.Size {
		return b, true, twoSizes(d.Digest, b.size, d.Size)
	}
	if !known {
		b = &blob{size: d.Size}
		p.blobs[d.Digest] = b
	}
	if m, ok := p.members[blobName(d.Digest)]; ok && m.size != d.Size {
		return b, known, otherSize(d, m.size)
	}
	return b, known, nil
}

// isDocument records that a blob which was noted is a manifest or an index.
func (p *parser) isDocument(d digest.Digest, mediaType string) {
	b := p.blobs[d]
	b.document, b.mediaType = true, mediaType
}

func twoSizes(d digest.Digest, one, other int64) error {
	return fault.New(fault.Corrupt, "blob %s is named with %d bytes and with %d", d, one, other)
}
