package image

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

var (
	hex64  = strings.Repeat("ab", 32)
	hex128 = strings.Repeat("cd", 64)
)

const (
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	ociLayer     = "application/vnd.oci.image.layer.v1.tar+gzip"
	ociManifest  = "application/vnd.oci.image.manifest.v1+json"
	ociIndex     = "application/vnd.oci.image.index.v1+json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// desc writes a descriptor.
func desc(mediaType, dgst string, size int64) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, dgst, size)
}

func TestParseManifest(t *testing.T) {
	config := `"config":` + desc(ociConfig, "sha256:"+hex64, 7)
	dconfig := `"config":` + desc(dockerConfig, "sha256:"+hex64, 7)
	good := desc(ociLayer, "sha256:"+hex64, 9)
	layers := func(l ...string) string { return `"layers":[` + strings.Join(l, ",") + `]` }
	withConfig := func(mediaType string) string {
		return `{"schemaVersion":2,"config":` + desc(mediaType, "sha256:"+hex64, 2) + `,` + layers() + `}`
	}
	withLayer := func(d string) string { return `{"schemaVersion":2,` + config + `,` + layers(d) + `}` }

	for _, tc := range []struct {
		name, mediaType, raw string
		kind                 fault.Kind // 0: fine
		say                  string     // a part of the error
		layers, manifests    int
	}{
		{name: "oci", mediaType: ociManifest, raw: withLayer(good), layers: 1},
		{name: "docker", mediaType: DockerManifest,
			raw: `{"schemaVersion":2,` + dconfig + `,` + layers(desc(dockerLayer, "sha256:"+hex64, 1), desc(dockerLayer, "sha512:"+hex128, 0)) + `}`, layers: 2},
		{name: "no layers at all", raw: `{"schemaVersion":2,` + config + `}`},
		{name: "index", mediaType: ociIndex, raw: `{"schemaVersion":2,"manifests":[` + desc(ociManifest, "sha256:"+hex64, 3) + `]}`, manifests: 1},
		{name: "empty index", mediaType: ociIndex, raw: `{"schemaVersion":2,"manifests":[]}`},
		{name: "foreign docker layer", raw: withLayer(desc("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "sha256:"+hex64, 1)), layers: 1},
		{name: "foreign oci layer", raw: withLayer(desc("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "sha256:"+hex64, 1)), layers: 1},

		{name: "no JSON", raw: "<html>", kind: fault.Corrupt, say: "not valid JSON"},
		{name: "empty", raw: "", kind: fault.Corrupt, say: "not valid JSON"},
		{name: "something behind", raw: withLayer(good) + "{}", kind: fault.Corrupt, say: "not valid JSON"},
		{name: "neither", raw: `{"schemaVersion":2}`, kind: fault.Failed, say: "has no config"},
		{name: "null index", raw: `{"schemaVersion":2,"manifests":null}`, kind: fault.Failed, say: "has no config"},
		{name: "schema 1 by version", raw: `{"schemaVersion":1}`, kind: fault.Failed, say: "schema 1"},
		{name: "schema 1 by fsLayers", raw: `{"schemaVersion":2,"fsLayers":[]}`, kind: fault.Failed, say: "schema 1"},
		{name: "schema 1 by type", mediaType: DockerSchema1Signed, raw: `{}`, kind: fault.Failed, say: "schema 1"},

		// CVE-2021-41190: one document that two programs read as two things.
		{name: "index and layers", raw: `{"schemaVersion":2,"manifests":[],` + layers() + `}`, kind: fault.Corrupt, say: "at once"},
		{name: "index and config", raw: `{"schemaVersion":2,"manifests":[],` + config + `}`, kind: fault.Corrupt, say: "at once"},
		{name: "index that says manifest", mediaType: ociManifest, raw: `{"schemaVersion":2,"manifests":[]}`, kind: fault.Corrupt, say: "holds an index"},
		{name: "index whose text says manifest", mediaType: ociIndex, raw: `{"schemaVersion":2,"mediaType":"` + DockerManifest + `","manifests":[]}`, kind: fault.Corrupt, say: "holds an index"},
		{name: "manifest that says index", mediaType: ociIndex, raw: withLayer(good), kind: fault.Corrupt, say: "holds an image"},
		{name: "manifest that says list", mediaType: DockerManifestList, raw: withLayer(good), kind: fault.Corrupt, say: "holds an image"},

		{name: "artifact by config", raw: withConfig("application/vnd.cncf.helm.config.v1+json"), kind: fault.Failed, say: "helm"},
		{name: "artifact by empty config", raw: `{"schemaVersion":2,"artifactType":"text/sbom","config":` + desc("application/vnd.oci.empty.v1+json", "sha256:"+hex64, 2) + `}`, kind: fault.Failed, say: "text/sbom"},
		{name: "artifact by type, config of any", raw: `{"schemaVersion":2,"artifactType":"text/sbom","config":` + desc("application/json", "sha256:"+hex64, 2) + `}`, kind: fault.Failed, say: "text/sbom"},
		{name: "attestation", raw: withLayer(desc("application/vnd.in-toto+json", "sha256:"+hex64, 1)), kind: fault.Failed, say: "no layer of files"},
		{name: "wasm", raw: withLayer(desc("application/wasm", "sha256:"+hex64, 1)), kind: fault.Failed, say: "application/wasm"},
		{name: "SBOM", raw: withLayer(desc("text/spdx", "sha256:"+hex64, 1)), kind: fault.Failed, say: "text/spdx"},
		{name: "signature", raw: withLayer(desc("application/vnd.dev.cosign.simplesigning.v1+json", "sha256:"+hex64, 1)), kind: fault.Failed, say: "cosign"},
		{name: "chart", raw: withLayer(desc("application/vnd.cncf.helm.chart.provenance.v1.prov", "sha256:"+hex64, 1)), kind: fault.Failed, say: "helm"},
		{name: "encrypted, of somebody's type", raw: withLayer(desc("application/vnd.acme.layer.v1.tar+gzip+encrypted", "sha256:"+hex64, 1)), kind: fault.Failed, say: "encrypted"},
		// Docker and containerd look at the bytes of these.
		{name: "layer of no type", raw: withLayer(desc("", "sha256:"+hex64, 1)), layers: 1},
		{name: "layer of octets", raw: withLayer(desc("application/octet-stream", "sha256:"+hex64, 1)), layers: 1},
		{name: "layer of octets, in another spelling", raw: withLayer(desc("Application/Octet-Stream; charset=binary", "sha256:"+hex64, 1)), layers: 1},
		{name: "layer of x-gtar", raw: withLayer(desc("application/x-gtar", "sha256:"+hex64, 1)), layers: 1},
		{name: "layer of early Docker's x-gtar", raw: withLayer(desc("application/vnd.docker.container.image.rootfs.diff+x-gtar", "sha256:"+hex64, 1)), layers: 1},
		{name: "layer of gzip", raw: withLayer(desc("application/gzip", "sha256:"+hex64, 1)), layers: 1},
		{name: "layer of somebody's tar", raw: withLayer(desc("application/vnd.acme.layer.v1.tar+zstd", "sha256:"+hex64, 1)), layers: 1},
		{name: "layer of xz", raw: withLayer(desc("application/vnd.oci.image.layer.v1.tar+xz", "sha256:"+hex64, 1)), layers: 1},
		// But there has to be something that says it is an image.
		{name: "octets of octets", raw: `{"schemaVersion":2,"config":` + desc("application/octet-stream", "sha256:"+hex64, 2) + `,` + layers(desc("application/octet-stream", "sha256:"+hex64, 1)) + `}`, kind: fault.Failed, say: "no layer of files"},
		{name: "nothing of nothing", raw: `{"schemaVersion":2,"config":` + desc("", "sha256:"+hex64, 2) + `,` + layers(desc("", "sha256:"+hex64, 1)) + `}`, kind: fault.Failed, say: "no media type"},
		{name: "more objects than an image has", raw: `{"schemaVersion":2,` + config + `,"layers":[` + strings.Repeat("{},", 1<<17) + `{}]}`, kind: fault.Corrupt, say: "objects"},
		{name: "encrypted", raw: withLayer(desc(ociLayer+"+encrypted", "sha256:"+hex64, 1)), kind: fault.Failed, say: "encrypted"},
		// Docker takes these, which distribution's issue 1621 made some registries have.
		{name: "config of octets", raw: withConfig("application/octet-stream")},
		{name: "config of no type", raw: withConfig("")},
		{name: "config of html", raw: withConfig("text/html")},

		// CVE-2024-3727: a digest becomes a path or a URL.
		{name: "digest as path", raw: withLayer(desc(ociLayer, "../../etc/passwd", 1)), kind: fault.Corrupt, say: "layer 1"},
		{name: "digest with path behind", raw: withLayer(desc(ociLayer, "sha256:"+hex64+"/../x", 1)), kind: fault.Corrupt, say: "no digest"},
		{name: "digest with newline", raw: withLayer(desc(ociLayer, "sha256:"+hex64+"\n", 1)), kind: fault.Corrupt, say: "no digest"},
		{name: "digest too short", raw: withLayer(desc(ociLayer, "sha256:"+hex64[1:], 1)), kind: fault.Corrupt, say: "no digest"},
		{name: "digest in capitals", raw: withLayer(desc(ociLayer, "sha256:"+strings.ToUpper(hex64), 1)), kind: fault.Corrupt, say: "no digest"},
		{name: "digest missing", raw: withLayer(`{"mediaType":"` + ociLayer + `","size":1}`), kind: fault.Corrupt, say: "no digest"},
		{name: "digest of md5", raw: withLayer(desc(ociLayer, "md5:"+hex64[:32], 1)), kind: fault.Corrupt, say: "no digest"},
		{name: "digest of sha384", raw: withLayer(desc(ociLayer, "sha384:"+hex128[:96], 1)), kind: fault.Corrupt, say: "sha384"},
		{name: "bad config digest", raw: `{"config":` + desc(ociConfig, "sha256:x", 1) + `}`, kind: fault.Corrupt, say: "config"},
		{name: "bad digest in index", raw: `{"manifests":[` + desc(ociManifest, "x", 1) + `]}`, kind: fault.Corrupt, say: "manifest 1 of the index"},
		{name: "negative size", raw: withLayer(desc(ociLayer, "sha256:"+hex64, -1)), kind: fault.Corrupt, say: "size -1"},
		{name: "negative config size", raw: `{"config":` + desc(ociConfig, "sha256:"+hex64, -5) + `}`, kind: fault.Corrupt, say: "size -5"},
		{name: "size beyond 64 bits", raw: strings.Replace(withLayer(good), `"size":9`, `"size":99999999999999999999`, 1), kind: fault.Corrupt, say: "not valid JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := ParseManifest(tc.mediaType, []byte(tc.raw))
			if fault.KindOf(err) != tc.kind {
				t.Fatalf("error %v, want kind %d", err, tc.kind)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tc.say) {
					t.Errorf("error %q does not say %q", err, tc.say)
				}
				return
			}
			if len(m.Layers) != tc.layers || len(m.Manifests) != tc.manifests {
				t.Errorf("%d layers and %d manifests, want %d and %d", len(m.Layers), len(m.Manifests), tc.layers, tc.manifests)
			}
			if m.IsIndex() == (m.Config.Digest != "") {
				t.Error("an index and a manifest at once, or neither")
			}
		})
	}
}

// The document's own media type is the one under the digest.
func TestMediaTypeOfTheDocument(t *testing.T) {
	m, err := ParseManifest("text/plain", []byte(`{"mediaType":"`+ociIndex+`","manifests":[]}`))
	if err != nil || m.MediaType != ociIndex {
		t.Errorf("media type %v, error %v", m, err)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add(ociManifest, []byte(`{"schemaVersion":2,"config":`+desc(ociConfig, "sha256:"+hex64, 7)+`,"layers":[`+desc(ociLayer, "sha256:"+hex64, 1)+`]}`))
	f.Add(ociIndex, []byte(`{"manifests":[`+desc(ociManifest, "sha512:"+hex128, 7)+`]}`))
	f.Add("", []byte(`{"Manifests":[],"LAYERS":null,"config":{}}`))
	f.Add("", []byte(`[]`))
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		m, err := ParseManifest(mediaType, raw)
		if (m == nil) == (err == nil) {
			t.Fatalf("manifest %v and error %v", m, err)
		}
		if err != nil {
			if k := fault.KindOf(err); k != fault.Corrupt && k != fault.Failed {
				t.Fatalf("kind %d: %v", k, err)
			}
			return
		}
		all := append(m.Layers, m.Manifests...)
		if !m.IsIndex() {
			all = append(all, m.Config)
		} else if m.Config.Digest != "" || m.Layers != nil {
			t.Fatal("an index that is a manifest too")
		}
		for _, d := range all {
			enc := d.Digest.Encoded()
			if d.Size < 0 || d.Digest.Validate() != nil || strings.Trim(enc, "0123456789abcdef") != "" || len(enc) < 64 {
				t.Fatalf("%v came through", d)
			}
		}
		if !m.IsIndex() {
			// Whatever the config is, it must not match by accident or panic.
			if _, err := New(m, raw); err == nil && digest.FromBytes(raw) != m.Config.Digest {
				t.Fatal("the manifest is its own config")
			}
		}
		if _, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	})
}
