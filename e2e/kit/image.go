//go:build e2e

package kit

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

// ImageSpec describes an image. The zero value with some layers is a
// Docker image for this machine.
type ImageSpec struct {
	Layers   []Layer
	OCI      bool
	Platform string // os/arch[/variant]
	Cmd      []string
	Label    string // two images with the same layers differ in it

	// What is written in place of what is true.
	LieInConfig   func(*v1.ConfigFile)
	LieInManifest func(*v1.Manifest)
}

// Image is one as it lies in a registry, every byte of it chosen here.
type Image struct {
	Layers    []Layer
	Config    []byte
	ID        v1.Hash // of config: Docker's image ID
	Manifest  []byte
	Digest    v1.Hash // of manifest
	MediaType types.MediaType
	platform  *v1.Platform
}

func MakeImage(t *testing.T, s ImageSpec) Image {
	t.Helper()
	if s.Platform == "" {
		s.Platform = "linux/" + runtime.GOARCH
	}
	platform, err := v1.ParsePlatform(s.Platform)
	if err != nil {
		t.Fatal(err)
	}
	config := v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		Created: v1.Time{Time: SampleTime.Truncate(time.Second)},
		Config:  v1.Config{Cmd: s.Cmd, Env: []string{"PATH=/bin"}, Labels: map[string]string{"e2e": s.Label}},
		RootFS:  v1.RootFS{Type: "layers"},
	}
	configType := types.DockerConfigJSON
	im := Image{Layers: s.Layers, MediaType: types.DockerManifestSchema2, platform: platform}
	if s.OCI {
		configType, im.MediaType = types.OCIConfigJSON, types.OCIManifestSchema1
	}
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: im.MediaType}
	for _, l := range s.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
		config.History = append(config.History, v1.History{Created: config.Created, CreatedBy: "e2e"})
		manifest.Layers = append(manifest.Layers, v1.Descriptor{
			MediaType: l.MediaType(s.OCI), Digest: l.Digest, Size: int64(len(l.Packed))})
	}
	if s.LieInConfig != nil {
		s.LieInConfig(&config)
	}
	im.Config = Encode(t, config)
	im.ID = HashOf(im.Config)
	manifest.Config = v1.Descriptor{MediaType: configType, Digest: im.ID, Size: int64(len(im.Config))}
	if s.LieInManifest != nil {
		s.LieInManifest(&manifest)
	}
	im.Manifest = Encode(t, manifest)
	im.Digest = HashOf(im.Manifest)
	return im
}

func Encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Push puts the image into the registry under repository:tag and gives the
// reference by which it is pulled.
func (r *Registry) Push(t *testing.T, nameAndTag string, im Image) string {
	t.Helper()
	ref := r.Addr + "/" + nameAndTag
	for _, l := range im.Layers {
		r.pushBlob(t, ref, l.Packed, types.DockerLayer)
	}
	r.pushBlob(t, ref, im.Config, types.DockerConfigJSON)
	r.pushManifest(t, ref, rawManifest{im.Manifest, im.MediaType})
	return ref
}

func (r *Registry) pushBlob(t *testing.T, ref string, content []byte, mt types.MediaType) {
	t.Helper()
	repo := ParseRef(t, ref).Context()
	if err := remote.WriteLayer(repo, static.NewLayer(content, mt), r.remoteOptions(t)...); err != nil {
		t.Fatalf("push a blob to %s: %v\n%s", ref, err, r.out.Tail())
	}
}

func (r *Registry) pushManifest(t *testing.T, ref string, m rawManifest) {
	t.Helper()
	if err := remote.Put(ParseRef(t, ref), m, r.remoteOptions(t)...); err != nil {
		t.Fatalf("push the manifest of %s: %v\n%s", ref, err, r.out.Tail())
	}
}

func (r *Registry) remoteOptions(t *testing.T) []remote.Option {
	rt := r.client.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	return []remote.Option{remote.WithContext(t.Context()), remote.WithTransport(rt), remote.WithAuth(r.auth)}
}

func ParseRef(t *testing.T, ref string) name.Reference {
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

// Spoil changes a blob on the registry's disk, behind its back, and gives a
// func that puts the right one back.
func (r *Registry) Spoil(t *testing.T, h v1.Hash, change func([]byte) []byte) (repair func()) {
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

// Cmd is the command in the image's config.
func (im Image) Cmd() []string {
	var c v1.ConfigFile
	if err := json.Unmarshal(im.Config, &c); err != nil {
		panic(err) // this file made it
	}
	return c.Config.Cmd
}

// Bytes is what a pull of the image has to fetch.
func (im Image) Bytes() (n int64) {
	for _, l := range im.Layers {
		n += int64(len(l.Packed))
	}
	return n + int64(len(im.Config))
}

// Last is the uppermost layer.
func (im Image) Last() Layer { return im.Layers[len(im.Layers)-1] }

// WriteLayout writes the image, tagged "it", as an OCI layout (image-spec,
// image-layout.md).
func (im Image) WriteLayout(t *testing.T, dir string) {
	t.Helper()
	blob := func(h v1.Hash, content []byte) {
		WriteFile(t, filepath.Join(dir, "blobs", h.Algorithm, h.Hex), string(content))
	}
	for _, l := range im.Layers {
		blob(l.Digest, l.Packed)
	}
	blob(im.ID, im.Config)
	blob(im.Digest, im.Manifest)
	WriteFile(t, filepath.Join(dir, "oci-layout"), `{"imageLayoutVersion":"1.0.0"}`)
	WriteFile(t, filepath.Join(dir, "index.json"), string(Encode(t, v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: im.MediaType, Digest: im.Digest, Size: int64(len(im.Manifest)),
			Annotations: map[string]string{"org.opencontainers.image.ref.name": "it"},
		}},
	})))
}
