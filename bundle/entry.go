package bundle

import (
	"maps"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Entry is an image of a bundle, as index.json has it.
type Entry struct {
	Name       string             // with host and tag, "" if it has no tag
	Source     string             // name@digest that it came from, "" if that is not told
	Descriptor ocispec.Descriptor // of a manifest, or an index
}

// Annotated returns the entry as a descriptor of index.json.
func (e Entry) Annotated() ocispec.Descriptor {
	d := e.Descriptor
	d.Annotations = maps.Clone(d.Annotations)
	if d.Annotations == nil {
		d.Annotations = make(map[string]string)
	}
	for key, value := range map[string]string{
		annotationName: e.Name, annotationContainerd: e.Name, annotationSource: e.Source,
	} {
		if value != "" {
			d.Annotations[key] = value
		}
	}
	return d
}
