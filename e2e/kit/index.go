//go:build e2e

package kit

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// EntryOf describes an image in an index, with its platform if that is wanted.
func EntryOf(im Image, named bool) v1.Descriptor {
	d := v1.Descriptor{MediaType: im.MediaType, Digest: im.Digest, Size: int64(len(im.Manifest))}
	if named {
		d.Platform = im.platform
	}
	return d
}

// Attested returns an image and what BuildKit says of it.
func (r *Registry) Attested(t *testing.T, repo string, im Image, named bool) []v1.Descriptor {
	t.Helper()
	r.Push(t, repo+":part", im)
	note := MakeImage(t, ImageSpec{
		Layers: []Layer{LayerOf(Unpacked, nil, []byte("{}"))}, OCI: true, Label: im.Digest.String(),
		LieInConfig:   func(c *v1.ConfigFile) { c.OS, c.Architecture = "unknown", "unknown" },
		LieInManifest: func(m *v1.Manifest) { m.Layers[0].MediaType = "application/vnd.in-toto+json" },
	})
	r.Push(t, repo+":part", note)
	of := EntryOf(note, false)
	if named {
		of.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	}
	of.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": im.Digest.String()}
	return []v1.Descriptor{EntryOf(im, named), of}
}

// Index puts an index of what is there into the registry, and describes it.
func (r *Registry) Index(t *testing.T, nameAndTag string, entries ...v1.Descriptor) v1.Descriptor {
	t.Helper()
	raw := Encode(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: entries})
	r.pushManifest(t, r.Addr+"/"+nameAndTag, rawManifest{raw, types.OCIImageIndex})
	return v1.Descriptor{MediaType: types.OCIImageIndex, Digest: HashOf(raw), Size: int64(len(raw))}
}

// Nested puts an index into the registry that has an index for each image.
func (r *Registry) Nested(t *testing.T, repo string, named bool, images ...Image) (ref string, top v1.Descriptor) {
	t.Helper()
	var entries []v1.Descriptor
	for _, im := range images {
		d := r.Index(t, repo+":part", r.Attested(t, repo, im, named)...)
		if named {
			d.Platform = im.platform
		}
		entries = append(entries, d)
	}
	return r.Addr + "/" + repo + ":1", r.Index(t, repo+":1", entries...)
}

// Sign puts two things beside an image that refer to it, and one that refers to the
// first of those: a signature as OCI 1.1 has it, for which this registry needs the tag
// that stands in for the referrers API, its SBOM, and cosign's signature by a tag.
func (r *Registry) Sign(t *testing.T, repo string, subject v1.Descriptor) (found []v1.Descriptor) {
	t.Helper()
	artifact := func(kind, tag string, subject *v1.Descriptor) v1.Descriptor {
		config, layer := []byte("{}"), []byte("of "+subject.Digest.String()+": "+kind)
		m := map[string]any{
			"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": "application/" + kind,
			"config":      v1.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: HashOf(config), Size: 2},
			"layers":      []v1.Descriptor{{MediaType: "text/plain", Digest: HashOf(layer), Size: int64(len(layer))}},
			"annotations": map[string]string{"kind": kind},
		}
		if tag == "" {
			m["subject"] = subject
		}
		raw := Encode(t, m)
		ref := r.Addr + "/" + repo + "@" + HashOf(raw).String()
		if tag != "" {
			ref = r.Addr + "/" + repo + ":" + tag
		}
		r.pushBlob(t, ref, config, types.OCIConfigJSON)
		r.pushBlob(t, ref, layer, types.OCILayer)
		r.pushManifest(t, ref, rawManifest{raw, types.OCIManifestSchema1})
		return v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: HashOf(raw), Size: int64(len(raw))}
	}
	signature := artifact("signature", "", &subject)
	return []v1.Descriptor{signature, artifact("sbom", "", &signature), artifact("cosign", "sha256-"+subject.Digest.Hex+".sig", &subject)}
}

// PushIndex puts the images into the registry under an index of them.
func (r *Registry) PushIndex(t *testing.T, nameAndTag string, images ...Image) (ref string, digest v1.Hash) {
	t.Helper()
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.DockerManifestList}
	for _, im := range images {
		if im.MediaType == types.OCIManifestSchema1 {
			index.MediaType = types.OCIImageIndex
		}
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType: im.MediaType, Digest: im.Digest, Size: int64(len(im.Manifest)), Platform: im.platform})
		r.Push(t, nameAndTag, im)
	}
	ref = r.Addr + "/" + nameAndTag
	raw := Encode(t, index)
	r.pushManifest(t, ref, rawManifest{raw, index.MediaType})
	return ref, HashOf(raw)
}
