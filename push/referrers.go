package push

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// refer pushes what refers to an image that has been pushed, and what refers to
// that. It returns how many those are.
func (p *pusher) refer(ctx context.Context, e bundle.Entry, to registry.Reference, d *document, sent func(int64)) (n int, err error) {
	all, err := d.all()
	if err != nil {
		return 0, err
	}
	there, done := make(map[digest.Digest]bool), make(map[int]bool)
	for _, d := range all {
		there[digest.FromBytes(d.raw)] = true
	}
	listed := make(map[digest.Digest][]ocispec.Descriptor)
	var subjects []digest.Digest
	for more := true; more; {
		more = false
		for i, f := range p.From.Referrers() {
			if done[i] || !there[f.Subject] || f.Repository() != "" && e.Repository() != "" && f.Repository() != e.Repository() {
				continue
			}
			done[i], more = true, true
			a, err := p.From.Artifact(f.Descriptor.Digest)
			if err != nil {
				return n, err
			}
			if err := p.pushReferrer(ctx, f, to, d, sent); err != nil {
				return n, fmt.Errorf("%s, which refers to %s: %w", f.Descriptor.Digest, f.Subject, err)
			}
			n++
			there[f.Descriptor.Digest] = true
			if f.Tag == "" {
				if listed[f.Subject] == nil {
					subjects = append(subjects, f.Subject)
				}
				listed[f.Subject] = append(listed[f.Subject], a.Descriptor)
			}
		}
	}
	for _, s := range subjects {
		if err := p.Registry.Refer(ctx, to, s, listed[s]); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (p *pusher) pushReferrer(ctx context.Context, f bundle.Entry, to registry.Reference, d *document, sent func(int64)) error {
	raw, mediaType, err := p.From.Manifest(f.Descriptor.Digest)
	if err != nil {
		return err
	}
	doc := &document{p.From, raw, mediaType, d.wrap}
	var what remote.Taggable = index{doc}
	if !doc.isIndex() {
		if what, err = doc.image(); err != nil {
			return fault.Wrap(fault.Corrupt, err)
		}
	}
	ref := to.WithDigest(f.Descriptor.Digest)
	if f.Tag != "" {
		ref = to.WithTag(f.Tag)
	}
	return p.Registry.Push(ctx, ref, what, sent)
}
