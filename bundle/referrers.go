package bundle

import (
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// CosignTags are the tags of a repository under which cosign has the signatures,
// attestations and SBOMs of a manifest, where it does not use referrers.
func CosignTags(subject digest.Digest) []string {
	name := subject.Algorithm().String() + "-" + subject.Encoded()
	return []string{name + ".sig", name + ".att", name + ".sbom"}
}

// Referrers are the signatures, SBOMs and the like in the bundle that refer to its
// images or to each other, in the bundle's order. They have no Name.
func (r *Reader) Referrers() []Entry { return r.referrers }

// Artifact parses a referrer, or another manifest of the bundle.
func (r *Reader) Artifact(d digest.Digest) (*image.Artifact, error) {
	raw, mediaType, err := r.Manifest(d)
	if err != nil {
		return nil, err
	}
	return image.ParseArtifact(mediaType, raw)
}

// checkReferrer checks that the subject and the tag of a referrer can be used in names.
func checkReferrer(e Entry) error {
	if err := e.Subject.Validate(); err != nil {
		return fault.New(fault.Corrupt, "%s: %s refers to %q, which is no digest", indexName, e.Descriptor.Digest, e.Subject)
	}
	if e.Tag == "" {
		return nil
	}
	for _, tag := range CosignTags(e.Subject) {
		if tag == e.Tag {
			return nil
		}
	}
	return fault.New(fault.Corrupt, "%s: %s has the tag %q, which is none of its subject's", indexName, e.Descriptor.Digest, e.Tag)
}

// adoptReferrers moves entries that have a subject and no name to the referrers: the layouts of
// other programs do not tell them from images.
func (p *parser) adoptReferrers() error {
	images := p.entries[:0:0]
	subjects := make(map[digest.Digest]digest.Digest) // many entries may name the same
	for _, e := range p.entries {
		subject, known := subjects[e.Descriptor.Digest]
		if !known && e.Reference() == "" {
			raw, err := p.readBlob(e.Descriptor, maxDocument)
			if err != nil && !errors.Is(err, ErrNotHere) {
				return err
			}
			if a, aerr := image.ParseArtifact(e.Descriptor.MediaType, raw); err == nil && aerr == nil {
				subject = a.Subject
			}
			subjects[e.Descriptor.Digest] = subject
		}
		if subject != "" && e.Reference() == "" {
			e.Subject = subject
			p.referrers = append(p.referrers, e)
			continue
		}
		images = append(images, e)
	}
	p.entries = images
	return nil
}

// visitReferrer verifies the manifest of a referrer, or one below it, and notes its blobs.
func (p *parser) visitReferrer(d ocispec.Descriptor, below bool) ([]ocispec.Descriptor, error) {
	data, err := p.newDocument(d, below)
	if data == nil {
		return nil, err
	}
	a, err := image.ParseArtifact(d.MediaType, data)
	if err != nil {
		return nil, fmt.Errorf("%s, which refers to an image: %w", d.Digest, err)
	}
	p.isDocument(d.Digest, a.Descriptor.MediaType)
	for _, b := range a.Blobs {
		noted, _, err := p.note(b)
		if err != nil {
			return nil, err
		}
		noted.neededBy = d.Digest
	}
	return a.Manifests, nil
}

// listReferrers describes the referrers as FILE.json does.
func (r *Reader) listReferrers() (list []ListReferrer, err error) {
	for _, e := range r.referrers {
		a, err := r.Artifact(e.Descriptor.Digest)
		if err != nil {
			return nil, err
		}
		list = append(list, NewListReferrer(e, a))
	}
	return list, nil
}

// NewListReferrer describes a referrer. Its size is that of its manifest and blobs.
func NewListReferrer(e Entry, a *image.Artifact) ListReferrer {
	l := ListReferrer{
		Manifest: e.Descriptor.Digest, Subject: e.Subject, Tag: e.Tag, Source: e.Source,
		ArtifactType: a.Descriptor.ArtifactType, Size: e.Descriptor.Size,
	}
	for _, b := range a.Blobs {
		l.Size += b.Size
	}
	return l
}
