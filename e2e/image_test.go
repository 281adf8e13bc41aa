//go:build e2e

package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageSpec says what an image is to be. The zero value with some layers is a
// Docker image for this machine.
type imageSpec struct {
	layers   []layer
	oci      bool
	platform string // os/arch[/variant]
	cmd      []string
	label    string // two images with the same layers differ in it

	// What is written in place of what is true.
	lieInConfig   func(*v1.ConfigFile)
	lieInManifest func(*v1.Manifest)
}

// image is one as it lies in a registry, every byte of it chosen here.
type image struct {
	layers    []layer
	config    []byte
	id        v1.Hash // of config: Docker's image ID
	manifest  []byte
	digest    v1.Hash // of manifest
	mediaType types.MediaType
	platform  *v1.Platform
}

func makeImage(t *testing.T, s imageSpec) image {
	t.Helper()
	if s.platform == "" {
		s.platform = "linux/" + runtime.GOARCH
	}
	platform, err := v1.ParsePlatform(s.platform)
	if err != nil {
		t.Fatal(err)
	}
	config := v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		Created: v1.Time{Time: sampleTime.Truncate(time.Second)},
		Config:  v1.Config{Cmd: s.cmd, Env: []string{"PATH=/bin"}, Labels: map[string]string{"e2e": s.label}},
		RootFS:  v1.RootFS{Type: "layers"},
	}
	configType := types.DockerConfigJSON
	im := image{layers: s.layers, mediaType: types.DockerManifestSchema2, platform: platform}
	if s.oci {
		configType, im.mediaType = types.OCIConfigJSON, types.OCIManifestSchema1
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: im.mediaType}
	for _, l := range s.layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		config.History = append(config.History, v1.History{Created: config.Created, CreatedBy: "e2e"})
		manifest.Layers = append(manifest.Layers, v1.Descriptor{
			MediaType: l.mediaType(s.oci), Digest: l.digest, Size: int64(len(l.packed))})
	}
	if s.lieInConfig != nil {
		s.lieInConfig(&config)
	}
	im.config = encode(t, config)
	im.id = hashOf(im.config)
	manifest.Config = v1.Descriptor{MediaType: configType, Digest: im.id, Size: int64(len(im.config))}
	if s.lieInManifest != nil {
		s.lieInManifest(&manifest)
	}
	im.manifest = encode(t, manifest)
	im.digest = hashOf(im.manifest)
	return im
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// push puts the image into the registry under repository:tag and gives the
// reference by which it is pulled.
func (r *registry) push(t *testing.T, nameAndTag string, im image) string {
	t.Helper()
	ref := r.addr + "/" + nameAndTag
	for _, l := range im.layers {
		r.pushBlob(t, ref, l.packed, types.DockerLayer)
	}
	r.pushBlob(t, ref, im.config, types.DockerConfigJSON)
	r.pushManifest(t, ref, rawManifest{im.manifest, im.mediaType})
	return ref
}

func (r *registry) pushBlob(t *testing.T, ref string, content []byte, mt types.MediaType) {
	t.Helper()
	repo := parseRef(t, ref).Context()
	if err := remote.WriteLayer(repo, static.NewLayer(content, mt), r.remoteOptions(t)...); err != nil {
		t.Fatalf("push a blob to %s: %v\n%s", ref, err, r.out.tail())
	}
}

func (r *registry) pushManifest(t *testing.T, ref string, m rawManifest) {
	t.Helper()
	if err := remote.Put(parseRef(t, ref), m, r.remoteOptions(t)...); err != nil {
		t.Fatalf("push the manifest of %s: %v\n%s", ref, err, r.out.tail())
	}
}

func (r *registry) remoteOptions(t *testing.T) []remote.Option {
	rt := r.client.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	return []remote.Option{remote.WithContext(t.Context()), remote.WithTransport(rt), remote.WithAuth(r.auth)}
}

func parseRef(t *testing.T, ref string) name.Reference {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// rawManifest is a manifest to be put as it is.
type rawManifest struct {
	raw       []byte
	mediaType types.MediaType
}

var _ remote.Taggable = rawManifest{}

func (m rawManifest) RawManifest() ([]byte, error)        { return m.raw, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }

// spoil changes a blob on the registry's disk, behind its back, and gives a
// func that puts the right one back.
func (r *registry) spoil(t *testing.T, h v1.Hash, change func([]byte) []byte) (repair func()) {
	t.Helper()
	path := r.blobFile(h)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(change(append([]byte(nil), good...)))
	return func() { write(good) }
}

// cmd is what the image's config says is to be run.
func (im image) cmd() []string {
	var c v1.ConfigFile
	if err := json.Unmarshal(im.config, &c); err != nil {
		panic(err) // this file made it
	}
	return c.Config.Cmd
}

// bytes is what a pull of the image has to fetch.
func (im image) bytes() (n int64) {
	for _, l := range im.layers {
		n += int64(len(l.packed))
	}
	return n + int64(len(im.config))
}

// last is the uppermost layer.
func (im image) last() layer { return im.layers[len(im.layers)-1] }

// writeLayout writes the image, tagged "it", as an OCI layout (image-spec,
// image-layout.md).
func (im image) writeLayout(t *testing.T, dir string) {
	t.Helper()
	blob := func(h v1.Hash, content []byte) {
		writeFile(t, filepath.Join(dir, "blobs", h.Algorithm, h.Hex), string(content))
	}
	for _, l := range im.layers {
		blob(l.digest, l.packed)
	}
	blob(im.id, im.config)
	blob(im.digest, im.manifest)
	writeFile(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	writeFile(t, filepath.Join(dir, "index.json"), string(encode(t, v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: im.mediaType, Digest: im.digest, Size: int64(len(im.manifest)),
			Annotations: map[string]string{"org.opencontainers.image.ref.name": "it"},
		}},
	})))
}
