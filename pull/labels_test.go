package pull

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/registry"
	served "github.com/fastpull/fastpull/serve"
	"github.com/fastpull/fastpull/source"
)

// codecs are layers in all formats, and such that are none.
func codecs(t *testing.T) map[string]labelled {
	t.Helper()
	pack := testkit.Compress[io.WriteCloser]
	gz := func(b []byte) []byte {
		return pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }, b)
	}
	zs := func(b []byte, o ...zstd.EOption) []byte {
		return pack(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, o...) }, b)
	}
	of := func(name string) []byte { return plainTar(file{name: name, content: strings.Repeat(name, 100)}) }
	bz, err := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWYHa2oIAAG37gMmAAAJAAHeAAAhyZN4QCAggAFRCmjT0ENqZGhk/UEkUDIaAANH0YDoQcUoQi3q+BK6NiBDAxJxOwjJ0MevsOVRM2FafgH1yvYD8bmZkWBdyRThQkIHa2oI=")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]labelled)
	add := func(name string, blob, plain []byte) {
		all[name] = labelled{blob: blob, diffID: digest.FromBytes(plain)}
	}
	add("plain", of("plain"), of("plain"))
	add("plain, called as bzip2", of("BZh91AY&SY"), of("BZh91AY&SY"))
	add("plain, without an entry", make([]byte, 1024), make([]byte, 1024))
	add("no bytes", nil, nil)
	add("gzip", gz(of("gzip")), of("gzip"))
	two := of("gzip of two members")
	add("gzip of two members", append(gz(two[:700]), gz(two[700:])...), two)
	add("gzip of nothing", gz(make([]byte, 1024)), make([]byte, 1024))
	add("zstd", zs(of("zstd")), of("zstd"))
	add("zstd with a large window", zs(of("zstd --long"), zstd.WithWindowSize(512<<20), zstd.WithSingleSegment(false)), of("zstd --long"))
	add("zstd behind a skippable frame", append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'}, zs(of("skippable"))...), of("skippable"))
	add("xz", pack(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }, of("xz")), of("xz"))
	all["bzip2"] = labelled{blob: bz, diffID: "sha256:bd0cd7e72294ab975f91bdda19b7f7bc6ca82dd9c79cc56ab6c3f099f062fc24"}

	bad := func(name string, blob []byte, diffID digest.Digest) {
		all[name] = labelled{blob: blob, diffID: diffID, bad: true}
	}
	bad("bad: the diffID of the compressed bytes", gz(of("own")), digest.FromBytes(gz(of("own"))))
	bad("bad: the diffID of another", gz(of("other")), digest.FromBytes(of("another")))
	bad("bad: the diffID of another, plain", of("other plain"), digest.FromBytes(of("another")))
	bad("bad: no layer", []byte(`{"_type":"https://in-toto.io/Statement/v1"}`), digest.FromString(`{"_type":"https://in-toto.io/Statement/v1"}`))
	bad("bad: no tar in it", gz([]byte("text")), digest.FromString("text"))
	bad("bad: half a tar", of("half")[:700], digest.FromBytes(of("half")[:700]))
	bad("bad: half of the stream", zs(of("cut"))[:40], digest.FromBytes(of("cut")))
	return all
}

// labels are types under which registries have layers, whatever they are.
var labels = []string{
	ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
	"application/vnd.docker.image.rootfs.diff.tar.gzip", "application/octet-stream", "", "application/x-gtar",
}

// labelled is a layer under a type that may be another's.
type labelled struct {
	blob   []byte
	diffID digest.Digest
	bad    bool
}

// upload makes an image of one layer, under the given type, as no client would push it.
func (s *server) upload(t *testing.T, as, label string, l labelled) registry.Reference {
	t.Helper()
	repo, tag, _ := strings.Cut(as, ":")
	send := func(method, path, contentType string, body []byte) {
		req := httptest.NewRequest(method, path, bytes.NewReader(body))
		req.Header.Set("Content-Type", contentType)
		rec := httptest.NewRecorder()
		if s.handler.ServeHTTP(rec, req); rec.Code != http.StatusCreated {
			t.Fatalf("%s %s: %d %s", method, path, rec.Code, rec.Body)
		}
	}
	blob := func(b []byte) digest.Digest {
		send(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest.FromBytes(b).String(), "application/octet-stream", b)
		return digest.FromBytes(b)
	}
	config, err := json.Marshal(map[string]any{
		"os": "linux", "architecture": runtime.GOARCH, "author": as, "rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{l.diffID}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: blob(config), Size: int64(len(config))},
		Layers: []ocispec.Descriptor{{MediaType: label, Digest: blob(l.blob), Size: int64(len(l.blob))}},
	}
	m.SchemaVersion = 2
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	send(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, m.MediaType, raw)
	return s.ref(t, as)
}

// TestUnracedBytesDecide pulls layers of each format under each media type: what a layer is
// tells its bytes. It makes bundles of them in each form. What verify calls good, load
// and serve take, and a pull from what is served; what is bad no destination has.
func TestUnracedBytesDecide(t *testing.T) {
	need.NoDetector(t)
	s := serve(t)
	dir := t.TempDir()
	var good, bad []registry.Reference
	var damages []overlay.Damage // all of them, which is none
	for codec, l := range codecs(t) {
		damages = append(damages, overlay.Damage{Layer: l.diffID, DiffID: l.diffID})
		for _, label := range labels {
			ref := s.upload(t, fmt.Sprintf("img%d:tag", len(good)+len(bad)), label, l)
			t.Logf("%s: %s as %q", ref, codec, label)
			if !l.bad {
				good = append(good, ref)
			} else if bad = append(bad, ref); len(bad)%2 == 0 {
				break // of those, two types will do
			}
		}
	}
	damages = slices.DeleteFunc(damages, func(d overlay.Damage) bool {
		return !slices.ContainsFunc(slices.Collect(maps.Values(codecs(t))), func(l labelled) bool { return !l.bad && l.diffID == d.DiffID })
	})
	store := filepath.Join(dir, "store")
	if _, err := pull(t, t.Context(), to{Kind: "store", Path: store, Options: Options{References: good, NoSync: true}}); err != nil {
		t.Errorf("a store: %v", err)
	}
	if m, err := dockerroot.Repair(t.Context(), dockerroot.RepairOptions{Path: store, Registry: client(t, "test")}, damages); err != nil || len(m.Layers) != layersOf(damages) {
		t.Errorf("repair: %d layers of %d, %v", len(m.Layers), len(damages), err)
	}
	var some []registry.Reference // each format under one type: bundles that are made anew have none of them
	for i, ref := range good {
		if codec := i / len(labels); i%len(labels) == codec%len(labels) {
			some = append(some, ref)
		}
	}
	for _, tc := range []struct {
		name string
		form bundle.Form
		refs []registry.Reference
	}{
		{"all.tar", bundle.Keep, good}, {"some.tar", bundle.Keep, some}, {"plain.tar", bundle.Plain, some},
		{"some.tar.gz", bundle.Gzip, some}, {"some.tar.zst", bundle.Zstd, some},
	} {
		make := func(name string, refs ...registry.Reference) error {
			o := archiveOptions(filepath.Join(dir, name), refs...)
			o.Bundle.Layers, o.NoSync = tc.form, true
			_, err := pull(t, t.Context(), o)
			return err
		}
		if err := make(tc.name, tc.refs...); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if tc.name != "some.tar" {
			expectTaken(t, filepath.Join(dir, tc.name), tc.form == bundle.Keep, true)
		}
		if len(tc.refs) > len(some) || !strings.HasSuffix(tc.name, ".tar") {
			continue
		}
		docker := filepath.Join(dir, "docker.tar")
		onlyDocker(t, filepath.Join(dir, tc.name), docker)
		expectTaken(t, docker, false, true)
		for _, ref := range bad {
			if err := make("bad.tar", ref); err == nil {
				expectTaken(t, filepath.Join(dir, "bad.tar"), false, false)
				onlyDocker(t, filepath.Join(dir, "bad.tar"), docker)
				expectTaken(t, docker, false, false)
			}
		}
	}
	for _, ref := range bad {
		if _, err := pull(t, t.Context(), storeOptions(store, ref)); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%s, in a store: %v", ref, err)
		}
	}
}

// expectTaken makes sure that load and serve take a bundle if verify says that it is
// good. Keeps says that its layers have the registry's types.
func expectTaken(t *testing.T, name string, keeps, good bool) {
	t.Helper()
	r, err := bundle.Open(t.Context(), name, bundle.OpenOptions{TempDir: t.TempDir()})
	if err == nil {
		defer r.Close()
		err = r.Verify(t.Context(), bundle.VerifyOptions{DiffIDs: true})
	}
	if good != (err == nil) || !good && fault.KindOf(err) != fault.Corrupt {
		t.Errorf("%s: verify: %v", name, err)
	}
	if err != nil {
		return
	}
	// What load and serve ask for before they begin.
	if err := r.Verify(t.Context(), bundle.VerifyOptions{}); err != nil {
		t.Errorf("%s: verify says that it is good, and load and serve do not: %v", name, err)
	}
	_, refs, err := source.Bundle(r)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := pull(t, t.Context(), to{Kind: "store", Path: filepath.Join(t.TempDir(), "store"), From: r, Options: Options{References: refs, NoSync: true}})
	if err != nil {
		t.Errorf("%s: load: %v", name, err)
	}
	h, err := served.New(r)
	if err != nil {
		t.Fatalf("%s: serve: %v", name, err)
	}
	at := httptest.NewServer(h)
	defer at.Close()
	var here []registry.Reference
	for _, ref := range refs {
		ref, err := registry.ParseReference(strings.TrimPrefix(at.URL, "http://") + "/" + ref.Repository() + ":" + ref.Tag())
		if err != nil {
			t.Fatal(err)
		}
		here = append(here, ref)
	}
	pulled, err := pull(t, t.Context(), to{Kind: "store", Path: filepath.Join(t.TempDir(), "store"), Options: Options{References: here, NoSync: true}})
	if err != nil {
		t.Errorf("%s: a pull from what is served: %v", name, err)
	}
	for i := range refs {
		if loaded.Images[i].ImageID != pulled.Images[i].ImageID {
			t.Errorf("%s: %s is loaded as %s, and pulled as %s", name, refs[i], loaded.Images[i].ImageID, pulled.Images[i].ImageID)
		}
	}
	for _, l := range r.Layers() {
		resp, err := http.Get(at.URL + "/v2/" + refs[0].Repository() + "/blobs/" + l.Blob.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || digest.FromBytes(data) != l.Blob.Digest {
			t.Errorf("%s: blob %s is served as %d bytes with the digest %s, %v", name, l.Blob.Digest, len(data), digest.FromBytes(data), err)
		}
		if is := r.LayerType(l); l.Blob.MediaType != is && !keeps {
			t.Errorf("%s: a layer that is %s has the type %s", name, is, l.Blob.MediaType)
		}
	}
}

// onlyDocker makes of a bundle the archive that a docker save of old would make: without
// what is not in manifest.json.
func onlyDocker(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	in, out := tar.NewReader(bytes.NewReader(data)), tar.NewWriter(&b)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err == nil && h.Name != "manifest.json" && !strings.HasPrefix(h.Name, "blobs/") {
			continue
		}
		if err == nil {
			err = out.WriteHeader(h)
		}
		if err == nil {
			_, err = io.Copy(out, in)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(out.Close(), os.WriteFile(to, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// layersOf returns how many layers are damaged.
func layersOf(damages []overlay.Damage) int {
	layers := make(map[digest.Digest]bool)
	for _, d := range damages {
		if d.Layer != "" {
			layers[d.Layer] = true
		}
	}
	return len(layers)
}
