//go:build e2e

package e2e

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// shipment is three images that share layers, in a registry.
type shipment struct {
	reg    *registry
	refs   []string
	images []image
}

func newShipment(t *testing.T) *shipment {
	t.Helper()
	s := &shipment{reg: startRegistry(t, registryOptions{})}
	base, big := baseLayer(t, 0), noiseLayer(t, 9<<20, 1)
	for i, layers := range [][]layer{
		{base, big, smallLayer(t, "word", "one\n")},
		{base, smallLayer(t, "word", "two\n"), big},
		{base, smallLayer(t, "word", "three\n")},
	} {
		im := makeImage(t, imageSpec{layers: layers, cmd: []string{"/bin/cat", "/word"}, oci: i == 1})
		s.images = append(s.images, im)
		s.refs = append(s.refs, s.reg.push(t, []string{"one:1", "two/deep:2", "three:3"}[i], im))
	}
	return s
}

// words are what the images print.
var words = []string{"one", "two", "three"}

// bundle makes one of the shipment.
func (s *shipment) bundle(t *testing.T, args ...string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "images.tar")
	fastpull(t, append(append([]string{"bundle", "-o", file}, args...), s.refs...)...).expect(t, 0)
	return file
}

// docker loads into a dockerd; where layers are plain, into one whose unpigz
// hangs. Of the images, the IDs of which tell what is in them, the nth is run.
func (s *shipment) docker(t *testing.T, file, form string, nth int) {
	var o dockerdOptions
	if form == "plain" {
		o.pathFirst = plantUnpigz(t, "unpigz", "pigz").dir
	}
	d := startDockerd(t, o)
	d.must(t, "load", "-i", file)
	for i, ref := range s.refs {
		if got := d.inspect(t, ref).ID; got != s.images[i].id.String() {
			t.Errorf("%s has the ID %s, want %s", ref, got, s.images[i].id)
		}
	}
	if got := d.must(t, "run", "--rm", "--network", "none", s.refs[nth]); got != words[nth] {
		t.Errorf("%s prints %q", s.refs[nth], got)
	}
}

// run runs a program of another's, and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String())
}

// containerd imports into the one that a dockerd brings along.
func (s *shipment) containerd(t *testing.T, file, form string) {
	s.imported(t, startDockerd(t, dockerdOptions{}), file, form)
}

func (s *shipment) imported(t *testing.T, d *dockerd, file, form string) {
	t.Helper()
	d.ctr(t, "images", "import", file)
	listed := d.ctr(t, "images", "list")
	for i, ref := range s.refs {
		if !strings.Contains(listed, ref+" ") {
			t.Errorf("%s is not there:\n%s", ref, listed)
		}
		if digest := s.images[i].digest.String(); form == "keep" && !strings.Contains(listed, digest) {
			t.Errorf("the manifest of %s is not %s:\n%s", ref, digest, listed)
		}
	}
	d.ctr(t, "images", "check")
}

func (s *shipment) podman(t *testing.T, file string) {
	dir := shortTempDir(t)
	t.Cleanup(func() { unmountBelow(t, dir) })
	podman := func(args ...string) string {
		return run(t, "podman", append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, args...)...)
	}
	podman("load", "-i", file)
	for i, ref := range s.refs {
		if got := podman("image", "inspect", "--format", "{{.Id}}", ref); "sha256:"+got != s.images[i].id.String() {
			t.Errorf("%s has the ID %s, want %s", ref, got, s.images[i].id)
		}
	}
}

func (s *shipment) skopeo(t *testing.T, file, form string) {
	for i, ref := range s.refs {
		for _, kind := range []string{"oci-archive:", "docker-archive:"} {
			if form == "keep" && kind == "oci-archive:" && s.images[i].mediaType != types.OCIManifestSchema1 {
				continue // it passes over manifests of Docker's type in an index.json
			}
			out := filepath.Join(t.TempDir(), "out")
			run(t, "skopeo", "--insecure-policy", "copy", kind+file+":"+ref, "dir:"+out)
			if _, err := os.Stat(filepath.Join(out, s.images[i].id.Hex)); err != nil {
				t.Errorf("%s%s: the config is not that of the image: %v", kind, ref, err)
			}
			manifest, err := os.ReadFile(filepath.Join(out, "manifest.json"))
			if err != nil {
				t.Fatal(err)
			}
			if form == "keep" && kind == "oci-archive:" && !bytes.Equal(manifest, s.images[i].manifest) {
				t.Errorf("%s%s: the manifest is not the registry's", kind, ref)
			}
		}
	}
}

// crane reads with the library that crane push is made of.
func (s *shipment) crane(t *testing.T, file, form string) {
	for i, ref := range s.refs {
		img, err := crane.LoadTag(file, ref)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := img.ConfigName(); err != nil || id != s.images[i].id {
			t.Errorf("%s has the ID %s (%v), want %s", ref, id, err, s.images[i].id)
		}
		to := s.reg.addr + "/by-crane/" + form + ":" + words[i]
		if err := crane.Push(img, to, crane.Insecure); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		back, err := crane.Pull(to, crane.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := back.ConfigName(); err != nil || id != s.images[i].id {
			t.Errorf("%s pushed by crane has the ID %s (%v)", ref, id, err)
		}
	}
}

// serveAt runs fastpull serve, and waits until it answers.
func serveAt(t *testing.T, addr string, args ...string) *running {
	t.Helper()
	r := newUser(t).start(t, append([]string{"serve", "--listen", addr}, args...)...)
	if !eventually(time.Minute, func() bool {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	}) {
		t.Fatal("it does not answer")
	}
	return r
}

// pulledFrom has everybody pull the images from a registry at addr, an Engine and a
// new store at last, and takes them away from the Engine, which runs the nth.
func (s *shipment) pulledFrom(t *testing.T, d *dockerd, addr, store string, nth int) {
	t.Helper()
	for i, ref := range s.refs {
		here := addr + strings.TrimPrefix(ref, s.reg.addr)
		d.must(t, "pull", here)
		if got := d.inspect(t, here).ID; got != s.images[i].id.String() {
			t.Errorf("%s has the ID %s, want %s", here, got, s.images[i].id)
		}
		if i == nth {
			if got := d.must(t, "run", "--rm", "--network", "none", here); got != words[i] {
				t.Errorf("%s prints %q", here, got)
			}
		}
		img, err := crane.Pull(here, crane.Insecure)
		if err == nil {
			err = crane.Save(img, here, filepath.Join(t.TempDir(), "saved.tar")) // which reads and verifies its layers
		}
		if err != nil {
			t.Errorf("%s: %v", here, err)
		}
		run(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+here, "dir:"+filepath.Join(t.TempDir(), "out"))
		sum := fastpull(t, "--store", store, "--json", here).expect(t, 0).summary(t)
		if sum.Images[0].ImageID != s.images[i].id.String() {
			t.Errorf("%+v", sum)
		}
	}
	for _, ref := range s.refs {
		d.must(t, "rmi", "-f", addr+strings.TrimPrefix(ref, s.reg.addr))
	}
}
