package image

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A document is described by the type that it came with, or by that of its kind.
func TestDocumentType(t *testing.T) {
	index := &Manifest{Manifests: []ocispec.Descriptor{}}
	for _, tc := range []struct {
		doc  Document
		want string
	}{
		{Document{Manifest: &Manifest{}, MediaType: DockerManifest}, DockerManifest},
		{Document{Manifest: &Manifest{}, MediaType: ocispec.MediaTypeImageManifest}, ocispec.MediaTypeImageManifest},
		{Document{Manifest: &Manifest{}, MediaType: "application/json"}, ocispec.MediaTypeImageManifest},
		{Document{Manifest: &Manifest{}}, ocispec.MediaTypeImageManifest},
		{Document{Manifest: index, MediaType: DockerManifestList}, DockerManifestList},
		{Document{Manifest: index, MediaType: "text/plain"}, ocispec.MediaTypeImageIndex},
	} {
		if got := tc.doc.Type(); got != tc.want {
			t.Errorf("a document that came as %q has the type %s, want %s", tc.doc.MediaType, got, tc.want)
		}
	}
}
