package image

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

func TestParseArtifact(t *testing.T) {
	subject := desc(ociManifest, "sha256:"+hex64, 7)
	config := desc("application/vnd.oci.empty.v1+json", "sha256:"+hex64, 2)
	for _, tc := range []struct {
		name, mediaType, raw string
		artifactType         string
		blobs, manifests     int
		say                  string // in the error
	}{
		{name: "signature", mediaType: ociManifest, raw: `{"artifactType":"a/b","config":` + config + `,"layers":[` + config + `],"subject":` + subject + `,"annotations":{"k":"v"}}`, artifactType: "a/b", blobs: 2},
		{name: "type of its config", mediaType: "", raw: `{"mediaType":"` + ociManifest + `","config":` + config + `,"subject":` + subject + `}`, artifactType: "application/vnd.oci.empty.v1+json", blobs: 1},
		{name: "index", mediaType: ociIndex, raw: `{"manifests":[` + subject + `],"subject":` + subject + `}`, manifests: 1},
		{name: "not JSON", mediaType: ociManifest, raw: `{`, say: "not valid JSON"},
		{name: "no type", raw: `{"config":` + config + `}`, say: "no media type"},
		{name: "of a draft", mediaType: "application/vnd.oci.artifact.manifest.v1+json", raw: `{"blobs":[]}`, say: "the type of no manifest"},
		{name: "no config", mediaType: ociManifest, raw: `{"layers":[]}`, say: "not what its type says"},
		{name: "no manifests", mediaType: ociIndex, raw: `{"config":` + config + `}`, say: "not what its type says"},
		{name: "both", mediaType: ociManifest, raw: `{"config":` + config + `,"manifests":[]}`, say: "not what its type says"},
		{name: "bad subject", mediaType: ociManifest, raw: `{"config":` + config + `,"subject":` + desc(ociManifest, "../x", 1) + `}`, say: "subject"},
		{name: "bad layer", mediaType: ociManifest, raw: `{"config":` + config + `,"layers":[` + desc("x/y", "sha256:x", 1) + `]}`, say: "no digest"},
		{name: "bad size in the index", mediaType: ociIndex, raw: `{"manifests":[` + desc(ociManifest, "sha256:"+hex64, -1) + `]}`, say: "size -1"},
	} {
		a, err := ParseArtifact(tc.mediaType, []byte(tc.raw))
		if tc.say != "" {
			if fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("%s: error %v", tc.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if d := a.Descriptor; d.ArtifactType != tc.artifactType || d.Digest != digest.FromString(tc.raw) || d.Size != int64(len(tc.raw)) {
			t.Errorf("%s: descriptor %+v", tc.name, d)
		}
		if len(a.Blobs) != tc.blobs || len(a.Manifests) != tc.manifests || a.Subject != digest.Digest("sha256:"+hex64) {
			t.Errorf("%s: %d blobs, %d manifests, subject %s", tc.name, len(a.Blobs), len(a.Manifests), a.Subject)
		}
	}
}
