package image

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/jsonlimit"
)

// Artifact is a manifest or an index of any kind: a signature, an SBOM, an image.
type Artifact struct {
	// Descriptor is the descriptor of the artifact in a list of referrers (distribution-spec
	// 1.1, "Listing Referrers"). It has the annotations, and the artifactType or else the type
	// of the config.
	Descriptor ocispec.Descriptor
	Subject    digest.Digest        // what it refers to, "" if to nothing
	Blobs      []ocispec.Descriptor // its config and layers, as [Blobs] has them
	Manifests  []ocispec.Descriptor // of an index
}

// artifactTypes are the types of what may refer to an image.
var artifactTypes = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, DockerManifest, DockerManifestList}

// ParseArtifact reads the bytes of a manifest or index that came with the given
// media type, and checks every descriptor in it. Errors are of kind [fault.Corrupt].
func ParseArtifact(mediaType string, raw []byte) (*Artifact, error) {
	var doc struct {
		MediaType    string                `json:"mediaType"`
		ArtifactType string                `json:"artifactType"`
		Config       *ocispec.Descriptor   `json:"config"`
		Manifests    *[]ocispec.Descriptor `json:"manifests"`
		Subject      *ocispec.Descriptor   `json:"subject"`
		Annotations  map[string]string     `json:"annotations"`
	}
	if err := jsonlimit.Unmarshal(raw, &doc); err != nil {
		return nil, notJSON(err)
	}
	if doc.MediaType != "" {
		mediaType = doc.MediaType
	}
	isIndex := mediaType == ocispec.MediaTypeImageIndex || mediaType == DockerManifestList
	switch {
	case !slices.Contains(artifactTypes, mediaType):
		return nil, fault.New(fault.Corrupt, "%s is the type of no manifest", known(mediaType))
	case isIndex && (doc.Manifests == nil || doc.Config != nil), !isIndex && (doc.Config == nil || doc.Manifests != nil):
		return nil, fault.New(fault.Corrupt, "what is in the manifest is not what its type says, %s", mediaType)
	}
	a := &Artifact{Descriptor: ocispec.Descriptor{
		MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)),
		ArtifactType: doc.ArtifactType, Annotations: doc.Annotations,
	}}
	if a.Descriptor.ArtifactType == "" && doc.Config != nil {
		a.Descriptor.ArtifactType = doc.Config.MediaType
	}
	if doc.Subject != nil {
		if err := checkDescriptor(*doc.Subject); err != nil {
			return nil, fmt.Errorf("subject: %w", err)
		}
		a.Subject = doc.Subject.Digest
	}
	if isIndex {
		a.Manifests = *doc.Manifests
		for i, d := range a.Manifests {
			if err := checkDescriptor(d); err != nil {
				return nil, fmt.Errorf("manifest %d of the index: %w", i+1, err)
			}
		}
		return a, nil
	}
	var err error
	a.Blobs, err = Blobs(raw)
	return a, err
}
