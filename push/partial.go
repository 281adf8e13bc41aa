package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// maxNesting is how deep indexes in indexes are looked into.
const maxNesting = 4

// attestationOf is the annotation by which builders say which manifest of an index
// one that is no image is about.
const attestationOf = "vnd.docker.reference.digest"

// present returns what is pushed for an index. Archives of others have indexes of
// which they lack manifests: docker save and ctr write such where only one platform
// was pulled. If the registry has the rest the index is pushed as it is. Else, as
// docker push does, what there is: one manifest, or a new index of several.
func (p *pusher) present(ctx context.Context, to registry.Reference, d *document) (*document, error) {
	var m struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(d.raw, &m); err != nil {
		return nil, fault.Wrap(fault.Corrupt, err)
	}
	var here []ocispec.Descriptor
	var lacking []string
	gone := make(map[string]bool)
	for _, child := range m.Manifests {
		ok, err := p.reaches(ctx, to, child, 0)
		if err != nil {
			return nil, err
		}
		if ok {
			here = append(here, child)
			continue
		}
		gone[child.Digest.String()] = true
		lacking = append(lacking, called(child))
	}
	if len(lacking) == 0 {
		return d, nil
	}
	here = slices.DeleteFunc(here, func(c ocispec.Descriptor) bool { return gone[c.Annotations[attestationOf]] })
	var pushed *document
	switch len(here) {
	case 0:
		return nil, fault.WithHint(fault.New(fault.NotFound, "of its index nothing is in %s, nor in the registry: %s", p.From.Name(), strings.Join(lacking, ", ")),
			"bring an archive that has it")
	case 1:
		one, err := d.open(v1.Hash{Algorithm: here[0].Digest.Algorithm().String(), Hex: here[0].Digest.Encoded()})
		if errors.Is(err, bundle.ErrNotHere) { // the registry's, and nothing to bring
			return nil, fault.New(fault.NotFound, "of its index %s is in the registry, and nothing in %s", called(here[0]), p.From.Name())
		}
		if err != nil {
			return nil, err
		}
		pushed = one
	default:
		raw, err := bundle.Index(d.raw, here)
		if err != nil {
			return nil, err
		}
		pushed = &document{d.r, raw, ocispec.MediaTypeImageIndex, d.wrap}
	}
	p.Progress.Warn("%s: of its index %s is lacking in %s and in the registry; pushed is the rest, with another digest, %s",
		to, strings.Join(lacking, ", "), p.From.Name(), digest.FromBytes(pushed.raw))
	return pushed, nil
}

// reaches tells if a manifest is in the bundle or the registry, with all that it
// names if it is an index.
func (p *pusher) reaches(ctx context.Context, to registry.Reference, d ocispec.Descriptor, depth int) (bool, error) {
	raw, mediaType, err := p.From.Manifest(d.Digest)
	if errors.Is(err, bundle.ErrNotHere) {
		return p.Registry.Has(ctx, to.WithDigest(d.Digest))
	}
	if err != nil || !types.MediaType(mediaType).IsIndex() || depth == maxNesting {
		return err == nil, err
	}
	var m struct {
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return false, fault.Wrap(fault.Corrupt, err)
	}
	for _, child := range m.Manifests {
		if ok, err := p.reaches(ctx, to, child, depth+1); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// called names a manifest of an index for people.
func called(d ocispec.Descriptor) string {
	if d.Platform == nil || d.Platform.OS == "unknown" {
		return d.Digest.String()
	}
	return fmt.Sprintf("%s (%.19s)", image.FormatPlatform(*d.Platform), d.Digest)
}
