package bundle

import (
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Entry is an image of a bundle, or what refers to one, as index.json has it.
type Entry struct {
	Name       string             // with host and tag, "" if it has no tag
	Source     string             // name@digest that it came from, "" if that is not told
	Descriptor ocispec.Descriptor // of a manifest, or an index

	// Subject is the digest of the manifest that it refers to, "" for an image.
	Subject digest.Digest
	// Tag is that by which cosign finds it in its repository, "" for what is found by
	// its Subject.
	Tag string
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
