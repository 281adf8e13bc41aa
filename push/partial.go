package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/registry"
)

// attestationOf is the annotation in which builders name the manifest of an index that an
// attestation is about.
const attestationOf = "vnd.docker.reference.digest"

// present returns what is pushed for an index. Archives of docker save and ctr can have an
// index without some of its manifests, if only one platform was pulled. If the registry has
// the others, the index is pushed as it is. Otherwise, as docker push does, what there is of
// it is pushed: one manifest, or a new index of several without nested indexes.
func (p *pusher) present(ctx context.Context, to registry.Reference, d *document) (*document, error) {
	l := looker{p: p, to: to, asked: make(map[digest.Digest]bool)}
	if err := l.look(ctx, d); err != nil {
		return nil, err
	}
	if len(l.lacking) == 0 {
		return d, nil
	}
	here := slices.DeleteFunc(l.here, func(c ocispec.Descriptor) bool {
		return slices.ContainsFunc(l.lacking, func(gone ocispec.Descriptor) bool { return c.Annotations[attestationOf] == gone.Digest.String() })
	})
	var lacking []string
	for _, gone := range l.lacking {
		lacking = append(lacking, called(gone))
	}
	var pushed *document
	switch len(here) {
	case 0:
		return nil, fault.WithHint(fault.New(fault.NotFound, "of its index nothing is in %s, nor in the registry: %s", p.From.Name(), strings.Join(lacking, ", ")),
			"bring an archive that has it")
	case 1:
		one, err := d.open(here[0].Digest)
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

// looker finds out which manifests of an index are in the bundle or in the registry.
type looker struct {
	p       *pusher
	to      registry.Reference
	asked   map[digest.Digest]bool // what the registry answered
	here    []ocispec.Descriptor
	lacking []ocispec.Descriptor
}

// look visits an index and the indexes in it. An index that the bundle lacks is either complete
// in the registry, or missing as a whole.
func (l *looker) look(ctx context.Context, d *document) error {
	list, err := d.manifests()
	if err != nil {
		return err
	}
	return image.Walk(list, func(e image.Entry) ([]ocispec.Descriptor, error) {
		child, err := d.open(e.Digest)
		if errors.Is(err, bundle.ErrNotHere) {
			there, err := l.has(ctx, e.Digest)
			if there {
				l.here = append(l.here, e.Flat())
			} else {
				l.lacking = append(l.lacking, e.Flat())
			}
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		if child.isIndex() {
			return child.manifests()
		}
		l.here = append(l.here, e.Flat())
		return nil, nil
	})
}

// has asks the registry for a manifest, once.
func (l *looker) has(ctx context.Context, d digest.Digest) (bool, error) {
	if there, ok := l.asked[d]; ok {
		return there, nil
	}
	there, err := l.p.Registry.Has(ctx, l.to.WithDigest(d))
	l.asked[d] = there
	return there, err
}

// called names a manifest of an index for people.
func called(d ocispec.Descriptor) string {
	if d.Platform == nil || d.Platform.OS == "unknown" {
		return d.Digest.String()
	}
	return fmt.Sprintf("%s (%.19s)", image.FormatPlatform(*d.Platform), d.Digest)
}
