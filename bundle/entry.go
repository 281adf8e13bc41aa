package bundle

import (
	"cmp"
	"maps"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Entry is an image or a referrer of a bundle, as index.json has it. Only this file decides
// what an image is called: [Entry.Reference] and [Entry.Repository] for readers, and the
// annotations for writers.
type Entry struct {
	Name       string             // with host and tag, "" if it has no tag
	Source     string             // name@digest in the registry that it came from, "" if not known
	Descriptor ocispec.Descriptor // of a manifest, or an index

	// Subject is the digest of the manifest that it refers to, "" for an image.
	Subject digest.Digest
	// Tag is the tag at which cosign finds a referrer in its repository. It is "" for a referrer
	// that is found by its Subject.
	Tag string
}

// entryOf reads a descriptor of index.json. A name of Podman's without a tag is no full name:
// others write a tag alone there. A referrer has no name.
func entryOf(d ocispec.Descriptor) Entry {
	e := Entry{
		Source: d.Annotations[annotationSource], Descriptor: d,
		Tag: d.Annotations[annotationTag], Subject: digest.Digest(d.Annotations[annotationReferrer]),
	}
	if e.Subject != "" {
		return e
	}
	e.Name = d.Annotations[annotationContainerd]
	if name := d.Annotations[annotationName]; e.Name == "" && strings.Contains(name, ":") {
		e.Name = name
	}
	return e
}

// Reference returns the name of an image: that with its tag, or else that with the digest
// that its registry had for it. It is "" if the bundle has neither.
func (e Entry) Reference() string { return cmp.Or(e.Name, e.Source) }

// Repository returns the repository that an entry came from, with its host, "" if that is
// not known.
func (e Entry) Repository() string {
	name, _, _ := strings.Cut(e.Source, "@")
	if name == "" {
		name = e.Name
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}

// Annotated returns the entry as a descriptor of index.json. Annotations by which
// it would pass for another entry are left out.
func (e Entry) Annotated() ocispec.Descriptor {
	d := e.Descriptor
	d.Annotations = maps.Clone(d.Annotations)
	if d.Annotations == nil {
		d.Annotations = make(map[string]string)
	}
	for key, value := range map[string]string{
		annotationName: e.Name, annotationContainerd: e.Name, annotationSource: e.Source,
		annotationReferrer: e.Subject.String(), annotationTag: e.Tag,
	} {
		if value != "" {
			d.Annotations[key] = value
		} else {
			delete(d.Annotations, key)
		}
	}
	return d
}
