package bundle

import (
	"encoding/json"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// Form is the form that layers have in a bundle.
type Form string

// The forms of layers. What is made of a layer differs in size and time only;
// all but Keep change an image's manifest, and none its ID.
const (
	Plain Form = "plain" // tars: loading them needs no decompressor
	Keep  Form = "keep"  // the registry's own bytes, with the digests that they have there
	Gzip  Form = "gzip"  // compressed anew
	Zstd  Form = "zstd"  // compressed anew; Docker reads it from 23.0 on
)

var forms = []Form{Plain, Keep, Gzip, Zstd}

// ParseForm reads the name of a form. Its error is of kind [fault.Usage].
func ParseForm(s string) (Form, error) {
	if f := Form(s); slices.Contains(forms, f) {
		return f, nil
	}
	return "", fault.New(fault.Usage, "%q is no form of layers: choose one of %v", s, forms)
}

// LayerType is the media type of layers of the form; "" for those that keep theirs.
func (f Form) LayerType() string {
	switch f {
	case Gzip:
		return ocispec.MediaTypeImageLayerGzip
	case Zstd:
		return ocispec.MediaTypeImageLayerZstd
	case Keep:
		return ""
	}
	return ocispec.MediaTypeImageLayer
}

// Manifest returns the manifest of an image whose layers have another form than in the registry.
// It keeps the annotations of the image, but not those of layers, which are about their bytes. A
// signature of the original manifest is not valid for this one.
func Manifest(original []byte, img *image.Image, layers []ocispec.Descriptor) ([]byte, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(original, &m); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	made := ocispec.Manifest{
		MediaType: ocispec.MediaTypeImageManifest, Annotations: m.Annotations, Layers: layers,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: img.ID, Size: int64(len(img.Config))},
	}
	made.SchemaVersion = 2
	return json.Marshal(made)
}

// Index makes the index of the manifests that are in the bundle.
func Index(original []byte, manifests []ocispec.Descriptor) ([]byte, error) {
	var index ocispec.Index
	if err := json.Unmarshal(original, &index); err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	made := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests, Annotations: index.Annotations}
	made.SchemaVersion = 2
	return json.Marshal(made)
}
