package image

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	// go-digest knows a digest only when its hash is linked in.
	_ "crypto/sha256"
	_ "crypto/sha512"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/jsonlimit"
)

// Media types of Docker, beside those of the OCI image-spec.
const (
	DockerManifest      = "application/vnd.docker.distribution.manifest.v2+json"
	DockerManifestList  = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	DockerSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	DockerConfig        = "application/vnd.docker.container.image.v1+json"
)

// configTypes are what an image's config is called. The last four are what some
// registries and old versions of Docker wrote (distribution's issue 1621); Docker
// takes them for images, and newer kinds of content always name their type.
var configTypes = []string{
	DockerConfig, ocispec.MediaTypeImageConfig,
	"application/octet-stream", "application/json", "text/html", "",
}

// Manifest is a parsed manifest or index; Manifests is set for an index,
// Config and Layers for a manifest, and never both.
type Manifest struct {
	MediaType string
	Manifests []ocispec.Descriptor // of an index
	Config    ocispec.Descriptor   // of a manifest
	Layers    []ocispec.Descriptor // of a manifest, the base first
}

// IsIndex reports whether m is an index: an OCI index or a Docker manifest list.
func (m *Manifest) IsIndex() bool { return m.Manifests != nil }

// ParseManifest parses a manifest or index that came with the given media type, and checks every
// descriptor in it. Its errors are of kind [fault.Corrupt]. They are of kind [fault.Failed] for
// a valid document that fastpull cannot use, such as a schema 1 manifest or an artifact.
func ParseManifest(mediaType string, raw []byte) (*Manifest, error) {
	var doc struct {
		SchemaVersion int                   `json:"schemaVersion"`
		MediaType     string                `json:"mediaType"`
		ArtifactType  string                `json:"artifactType"`
		Manifests     *[]ocispec.Descriptor `json:"manifests"`
		Config        *ocispec.Descriptor   `json:"config"`
		Layers        *[]ocispec.Descriptor `json:"layers"`
		FSLayers      json.RawMessage       `json:"fsLayers"`
	}
	if err := jsonlimit.Unmarshal(raw, &doc); err != nil {
		return nil, notJSON(err)
	}
	if doc.MediaType != "" {
		mediaType = doc.MediaType
	}
	if doc.SchemaVersion == 1 || doc.FSLayers != nil || mediaType == DockerSchema1 || mediaType == DockerSchema1Signed {
		return nil, fault.WithHint(
			fault.New(fault.Failed, "the manifest is of Docker's schema 1, which was given up in 2019 and cannot be verified"),
			"push the image again with a Docker of version 1.10 or later")
	}
	if doc.Manifests != nil && (doc.Config != nil || doc.Layers != nil) {
		return nil, fault.New(fault.Corrupt, "the manifest claims to be an index and an image at once")
	}

	m := &Manifest{MediaType: mediaType}
	switch {
	case doc.Manifests != nil:
		if mediaType == DockerManifest || mediaType == ocispec.MediaTypeImageManifest {
			return nil, fault.New(fault.Corrupt, "the manifest holds an index, its media type says %s", mediaType)
		}
		m.Manifests = slices.Clip(append([]ocispec.Descriptor{}, *doc.Manifests...))
		for i, d := range m.Manifests {
			if err := checkDescriptor(d); err != nil {
				return nil, fmt.Errorf("manifest %d of the index: %w", i+1, err)
			}
		}
		return m, nil
	case doc.Config == nil:
		return nil, fault.New(fault.Failed, "this is no image: the manifest (%s) has no config", known(mediaType))
	case mediaType == DockerManifestList || mediaType == ocispec.MediaTypeImageIndex:
		return nil, fault.New(fault.Corrupt, "the manifest holds an image, its media type says %s", mediaType)
	}

	m.Config = *doc.Config
	if err := checkDescriptor(m.Config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	t := slices.Index(configTypes, m.Config.MediaType)
	isImage := t == 0 || t == 1
	if t < 0 || !isImage && doc.ArtifactType != "" {
		what := cmp.Or(doc.ArtifactType, m.Config.MediaType)
		return nil, fault.WithHint(
			fault.New(fault.Failed, "this is an artifact (%s), not a container image", known(what)),
			"fetch it with the program that it was made for")
	}
	if doc.Layers != nil {
		m.Layers = *doc.Layers
	}
	for i, d := range m.Layers {
		if err := checkLayer(d, isImage); err != nil {
			return nil, fmt.Errorf("layer %d of the manifest: %w", i+1, err)
		}
	}
	return m, nil
}

// checkDescriptor makes sure that a descriptor can be used: its digest has the
// form of a digest, so that it is safe as a part of a path or URL
// (CVE-2024-3727), and its size is one.
func checkDescriptor(d ocispec.Descriptor) error {
	if err := checkDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 {
		return fault.New(fault.Corrupt, "%s has the size %d", d.Digest, d.Size)
	}
	return nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fault.New(fault.Corrupt, "%q is no digest: %w", string(d), err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return fault.New(fault.Corrupt, "%q: only sha256 and sha512 digests are known", string(d))
	}
	return nil
}

// notJSON is the error of a manifest that cannot be decoded.
func notJSON(err error) error {
	return fault.New(fault.Corrupt, "the manifest cannot be read: %w", err)
}

// known names a media type in an error, also one that is missing.
func known(mediaType string) string {
	if mediaType == "" {
		return "no media type"
	}
	return fmt.Sprintf("%q", mediaType)
}

// Blobs returns the blobs that a manifest of any kind names, also that of an artifact or of an
// image for another system: its config and layers. It leaves out blobs that registries may not
// have. Its errors are those of [ParseManifest].
func Blobs(raw []byte) ([]ocispec.Descriptor, error) {
	var doc ocispec.Manifest
	if err := jsonlimit.Unmarshal(raw, &doc); err != nil {
		return nil, notJSON(err)
	}
	var list []ocispec.Descriptor
	for _, d := range append([]ocispec.Descriptor{doc.Config}, doc.Layers...) {
		if d.Digest == "" || strings.Contains(d.MediaType, "nondistributable") || strings.Contains(d.MediaType, "foreign") {
			continue
		}
		if err := checkDescriptor(d); err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, nil
}
