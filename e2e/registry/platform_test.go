//go:build e2e

package registry

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPlatforms picks images out of indexes.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	platforms := []string{"linux/amd64", "linux/arm64", "linux/arm/v7"}
	for _, oci := range []bool{false, true} {
		name := "docker"
		if oci {
			name = "oci"
		}
		images := map[string]kit.Image{}
		var list []kit.Image
		for _, p := range platforms {
			images[p] = kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "platform", p)}, Platform: p, OCI: oci})
			list = append(list, images[p])
		}
		ref, digest := reg.PushIndex(t, name+":index", list...)

		for _, p := range append(platforms, "") {
			t.Run(name+"/"+p, func(t *testing.T) {
				args := []string{"--store", filepath.Join(t.TempDir(), "s"), "--json", ref}
				want := images["linux/"+runtime.GOARCH]
				if p != "" {
					args, want = append(args, "--platform", p), images[p]
				}
				s := kit.Fastpull(t, args...).Expect(t, 0).Summary(t)
				if len(s.Images) != 1 || s.Images[0].ImageID != want.ID.String() {
					t.Fatalf("%+v, want the image %s", s.Images, want.ID)
				}
				// Docker, too, shows the digest of what the tag leads to.
				if got := s.Images[0].Digest; got != digest.String() {
					t.Errorf("digest %s, want that of the index, %s", got, digest)
				}
				if got := s.Images[0].Platform; p != "" && got != p {
					t.Errorf("platform %q, want %q", got, p)
				}
			})
		}
		t.Run(name+"/missing", func(t *testing.T) {
			kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), "--platform", "linux/s390x", ref).
				Expect(t, 3, append([]string{"linux/s390x"}, platforms...)...)
		})
	}

	t.Run("NotAnIndex", func(t *testing.T) {
		ref := reg.Push(t, "single:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "a", "a")}}))
		kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), "--platform", "linux/s390x", ref).
			Expect(t, 3, "linux/s390x", "linux/"+runtime.GOARCH)
	})
	t.Run("NotAPlatform", func(t *testing.T) {
		ref := reg.Push(t, "single:2", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "a", "a")}}))
		kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), "--platform", "a/b/c/d", ref).Expect(t, 2)
	})
}

// TestNotAnImage pulls what registries hold beside images.
func TestNotAnImage(t *testing.T) {
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	t.Run("Artifact", func(t *testing.T) {
		ref := reg.Push(t, "chart:1", kit.MakeImage(t, kit.ImageSpec{
			Layers: []kit.Layer{kit.LayerOf(kit.Unpacked, nil, []byte("values: {}\n"))}, OCI: true,
			LieInManifest: func(m *v1.Manifest) {
				m.Config.MediaType = "application/vnd.example.chart.config.v1+json"
				m.Layers[0].MediaType = "application/vnd.example.chart.content.v1"
			},
		}))
		kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref).
			Expect(t, 1, "image", "application/vnd.example.chart")
	})
	t.Run("ManifestOfTwoKinds", func(t *testing.T) { // CVE-2021-41190
		im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "a", "a")}, OCI: true})
		both := strings.Replace(string(im.Manifest), "{", `{"manifests":[],`, 1)
		srv := serveManifest(t, string(types.OCIManifestSchema1), both)
		kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), srv+"/img:1").Expect(t, 5, "index")
	})
	t.Run("Schema1", func(t *testing.T) {
		srv := serveManifest(t, "application/vnd.docker.distribution.manifest.v1+prettyjws",
			`{"schemaVersion":1,"name":"img","tag":"1","architecture":"amd64","fsLayers":[{"blobSum":"`+kit.HashOf(nil).String()+`"}],"history":[{"v1Compatibility":"{}"}],"signatures":[]}`)
		kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), srv+"/img:1").Expect(t, 1, "schema 1")
	})
	t.Run("Garbage", func(t *testing.T) {
		srv := serveManifest(t, string(types.DockerManifestSchema2), "<html>login here</html>")
		kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), srv+"/img:1").Expect(t, 5, "manifest")
	})
}

// serveManifest is a registry that has one manifest under every name; what
// docker-registry would not take.
func serveManifest(t *testing.T, mediaType, manifest string) (addr string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("Docker-Content-Digest", kit.HashOf([]byte(manifest)).String())
			w.Write([]byte(manifest))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}
