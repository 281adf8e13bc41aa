//go:build e2e

package e2e

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entryOf describes an image in an index, with its platform if that is wanted.
func entryOf(im image, named bool) v1.Descriptor {
	d := v1.Descriptor{MediaType: im.mediaType, Digest: im.digest, Size: int64(len(im.manifest))}
	if named {
		d.Platform = im.platform
	}
	return d
}

// attested returns an image and what BuildKit says of it.
func (r *registry) attested(t *testing.T, repo string, im image, named bool) []v1.Descriptor {
	t.Helper()
	r.push(t, repo+":part", im)
	note := makeImage(t, imageSpec{
		layers: []layer{layerOf(unpacked, nil, []byte("{}"))}, oci: true, label: im.digest.String(),
		lieInConfig:   func(c *v1.ConfigFile) { c.OS, c.Architecture = "unknown", "unknown" },
		lieInManifest: func(m *v1.Manifest) { m.Layers[0].MediaType = "application/vnd.in-toto+json" },
	})
	r.push(t, repo+":part", note)
	of := entryOf(note, false)
	if named {
		of.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	}
	of.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": im.digest.String()}
	return []v1.Descriptor{entryOf(im, named), of}
}

// index puts an index of what is there into the registry, and describes it.
func (r *registry) index(t *testing.T, nameAndTag string, entries ...v1.Descriptor) v1.Descriptor {
	t.Helper()
	raw := encode(t, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: entries})
	r.pushManifest(t, r.addr+"/"+nameAndTag, rawManifest{raw, types.OCIImageIndex})
	return v1.Descriptor{MediaType: types.OCIImageIndex, Digest: hashOf(raw), Size: int64(len(raw))}
}

// nested puts an index into the registry that has an index for each image.
func (r *registry) nested(t *testing.T, repo string, named bool, images ...image) (ref string, top v1.Descriptor) {
	t.Helper()
	var entries []v1.Descriptor
	for _, im := range images {
		d := r.index(t, repo+":part", r.attested(t, repo, im, named)...)
		if named {
			d.Platform = im.platform
		}
		entries = append(entries, d)
	}
	return r.addr + "/" + repo + ":1", r.index(t, repo+":1", entries...)
}

// sign puts two things beside an image that refer to it, and one that refers to the
// first of those: a signature as OCI 1.1 has it, for which this registry needs the tag
// that stands in for the referrers API, its SBOM, and cosign's signature by a tag.
func (r *registry) sign(t *testing.T, repo string, subject v1.Descriptor) (found []v1.Descriptor) {
	t.Helper()
	artifact := func(kind, tag string, subject *v1.Descriptor) v1.Descriptor {
		config, layer := []byte("{}"), []byte("of "+subject.Digest.String()+": "+kind)
		m := map[string]any{
			"schemaVersion": 2, "mediaType": types.OCIManifestSchema1, "artifactType": "application/" + kind,
			"config":      v1.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: hashOf(config), Size: 2},
			"layers":      []v1.Descriptor{{MediaType: "text/plain", Digest: hashOf(layer), Size: int64(len(layer))}},
			"annotations": map[string]string{"kind": kind},
		}
		if tag == "" {
			m["subject"] = subject
		}
		raw := encode(t, m)
		ref := r.addr + "/" + repo + "@" + hashOf(raw).String()
		if tag != "" {
			ref = r.addr + "/" + repo + ":" + tag
		}
		r.pushBlob(t, ref, config, types.OCIConfigJSON)
		r.pushBlob(t, ref, layer, types.OCILayer)
		r.pushManifest(t, ref, rawManifest{raw, types.OCIManifestSchema1})
		return v1.Descriptor{MediaType: types.OCIManifestSchema1, Digest: hashOf(raw), Size: int64(len(raw))}
	}
	signature := artifact("signature", "", &subject)
	return []v1.Descriptor{signature, artifact("sbom", "", &signature), artifact("cosign", "sha256-"+subject.Digest.Hex+".sig", &subject)}
}

// pushIndex puts the images into the registry under an index of them.
func (r *registry) pushIndex(t *testing.T, nameAndTag string, images ...image) (ref string, digest v1.Hash) {
	t.Helper()
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.DockerManifestList}
	for _, im := range images {
		if im.mediaType == types.OCIManifestSchema1 {
			index.MediaType = types.OCIImageIndex
		}
		index.Manifests = append(index.Manifests, v1.Descriptor{
			MediaType: im.mediaType, Digest: im.digest, Size: int64(len(im.manifest)), Platform: im.platform})
		r.push(t, nameAndTag, im)
	}
	ref = r.addr + "/" + nameAndTag
	raw := encode(t, index)
	r.pushManifest(t, ref, rawManifest{raw, index.MediaType})
	return ref, hashOf(raw)
}
