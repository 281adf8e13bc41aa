package serve

import (
	"encoding/json"
	"net/http"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/registry"
)

// refer adds a referrer to its repository. If the repository is not known, it adds the referrer to
// all of them.
func (h *Handler) refer(r *bundle.Reader, e bundle.Entry) error {
	a, err := r.Artifact(e.Descriptor.Digest)
	if err != nil {
		return err
	}
	var only string
	if e.Source != "" {
		ref, err := registry.ParseReference(e.Source)
		if err != nil {
			return err
		}
		only = ref.Repository()
	}
	for name, repo := range h.repos {
		switch {
		case only != "" && name != only:
		case e.Tag != "":
			repo.aside[e.Tag] = e.Descriptor.Digest
		default:
			repo.referrers[e.Subject] = append(repo.referrers[e.Subject], a.Descriptor)
		}
	}
	return nil
}

// list answers the referrers API: all on one page, or those of an artifactType.
func (repo *repository) list(w http.ResponseWriter, q *http.Request, subject digest.Digest) {
	if subject.Validate() != nil {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "what follows /referrers/ is no digest")
		return
	}
	found := []ocispec.Descriptor{}
	only := q.URL.Query().Get("artifactType")
	for _, d := range repo.referrers[subject] {
		if only == "" || d.ArtifactType == only {
			found = append(found, d)
		}
	}
	if only != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_ = json.NewEncoder(w).Encode(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: found})
}
