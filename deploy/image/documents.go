package main

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
)

// labels returns what is known of the image, by the keys of image-spec, annotations.md.
func (a about) labels() map[string]string {
	all := map[string]string{
		ocispec.AnnotationTitle: "fastpull", ocispec.AnnotationLicenses: "Apache-2.0",
		ocispec.AnnotationSource:  "https://github.com/fastpull/fastpull",
		ocispec.AnnotationVersion: a.version, ocispec.AnnotationCreated: a.created.Format(time.RFC3339),
	}
	if a.revision != "" {
		all[ocispec.AnnotationRevision] = a.revision
	}
	return all
}

// writeImage writes the layers, the config and the manifest of a platform. It returns the
// manifest's descriptor for an index.
func writeImage(w *bundle.Writer, a about, p ocispec.Platform, layers ...[]byte) (m ocispec.Descriptor, err error) {
	config := ocispec.Image{
		Created: &a.created, Platform: p,
		Config: ocispec.ImageConfig{
			User: "0:0", Entrypoint: []string{"/" + programName}, WorkingDir: "/", Labels: a.labels(),
			Env: []string{"PATH=/", "HOME=/"},
		},
		RootFS: ocispec.RootFS{Type: "layers"},
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Annotations: a.labels(),
	}
	for i, data := range layers {
		d, err := writeBlob(w, ocispec.MediaTypeImageLayer, data)
		if err != nil {
			return m, err
		}
		manifest.Layers = append(manifest.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d.Digest)
		what := []string{"certificate authorities, directories", "fastpull " + a.version}[i]
		config.History = append(config.History, ocispec.History{Created: &a.created, CreatedBy: "deploy/image", Comment: what})
	}
	if manifest.Config, err = writeDocument(w, ocispec.MediaTypeImageConfig, config); err != nil {
		return m, err
	}
	m, err = writeDocument(w, manifest.MediaType, manifest)
	m.Platform = &p
	return m, err
}

// writeIndex writes the index of all platforms.
func writeIndex(w *bundle.Writer, a about, manifests []ocispec.Descriptor) (ocispec.Descriptor, error) {
	return writeDocument(w, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests, Annotations: a.labels(),
	})
}

func writeDocument(w *bundle.Writer, mediaType string, v any) (d ocispec.Descriptor, err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return d, err
	}
	return writeBlob(w, mediaType, data)
}

func writeBlob(w *bundle.Writer, mediaType string, data []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	return d, w.Blob(d.Digest, d.Size, bytes.NewReader(data))
}
