//go:build e2e

package kit

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

// Shipment is three images that share layers, in a registry.
type Shipment struct {
	Reg    *Registry
	Refs   []string
	Images []Image
}

func NewShipment(t *testing.T) *Shipment {
	t.Helper()
	s := &Shipment{Reg: StartRegistry(t, RegistryOptions{})}
	base, big := BaseLayer(t, 0), NoiseLayer(t, 9<<20, 1)
	for i, layers := range [][]Layer{
		{base, big, SmallLayer(t, "word", "one\n")},
		{base, SmallLayer(t, "word", "two\n"), big},
		{base, SmallLayer(t, "word", "three\n")},
	} {
		im := MakeImage(t, ImageSpec{Layers: layers, Cmd: []string{"/bin/cat", "/word"}, OCI: i == 1})
		s.Images = append(s.Images, im)
		s.Refs = append(s.Refs, s.Reg.Push(t, []string{"one:1", "two/deep:2", "three:3"}[i], im))
	}
	return s
}

// Words are what the images print.
var Words = []string{"one", "two", "three"}

// Bundle makes one of the shipment.
func (s *Shipment) Bundle(t *testing.T, args ...string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "images.tar")
	Fastpull(t, append(append([]string{"bundle", "-o", file}, args...), s.Refs...)...).Expect(t, 0)
	return file
}

// Docker loads into a dockerd; where layers are plain, into one whose unpigz
// hangs. Of the images, the IDs of which tell what is in them, the nth is run.
func (s *Shipment) Docker(t *testing.T, file, form string, nth int) {
	var o DockerdOptions
	if form == "plain" {
		o.PathFirst = PlantUnpigz(t, "unpigz", "pigz").Dir
	}
	d := StartDockerd(t, o)
	d.Must(t, "load", "-i", file)
	for i, ref := range s.Refs {
		if got := d.Inspect(t, ref).ID; got != s.Images[i].ID.String() {
			t.Errorf("%s has the ID %s, want %s", ref, got, s.Images[i].ID)
		}
	}
	if got := d.Must(t, "run", "--rm", "--network", "none", s.Refs[nth]); got != Words[nth] {
		t.Errorf("%s prints %q", s.Refs[nth], got)
	}
}

// Run runs a program of another's, and returns what it printed.
func Run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String())
}

// Containerd imports into the one that a dockerd brings along.
func (s *Shipment) Containerd(t *testing.T, file, form string) {
	s.Imported(t, StartDockerd(t, DockerdOptions{}), file, form)
}

func (s *Shipment) Imported(t *testing.T, d *Dockerd, file, form string) {
	t.Helper()
	d.Ctr(t, "images", "import", file)
	listed := d.Ctr(t, "images", "list")
	for i, ref := range s.Refs {
		if !strings.Contains(listed, ref+" ") {
			t.Errorf("%s is not there:\n%s", ref, listed)
		}
		if digest := s.Images[i].Digest.String(); form == "keep" && !strings.Contains(listed, digest) {
			t.Errorf("the manifest of %s is not %s:\n%s", ref, digest, listed)
		}
	}
	d.Ctr(t, "images", "check")
}

func (s *Shipment) Podman(t *testing.T, file string) {
	dir := ShortTempDir(t)
	t.Cleanup(func() { UnmountBelow(t, dir) })
	podman := func(args ...string) string {
		return Run(t, "podman", append([]string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "--storage-driver", "vfs"}, args...)...)
	}
	podman("load", "-i", file)
	for i, ref := range s.Refs {
		if got := podman("image", "inspect", "--format", "{{.ID}}", ref); "sha256:"+got != s.Images[i].ID.String() {
			t.Errorf("%s has the ID %s, want %s", ref, got, s.Images[i].ID)
		}
	}
}

func (s *Shipment) Skopeo(t *testing.T, file, form string) {
	for i, ref := range s.Refs {
		for _, kind := range []string{"oci-archive:", "docker-archive:"} {
			if form == "keep" && kind == "oci-archive:" && s.Images[i].MediaType != types.OCIManifestSchema1 {
				continue // it passes over manifests of Docker's type in an index.json
			}
			out := filepath.Join(t.TempDir(), "out")
			Run(t, "skopeo", "--insecure-policy", "copy", kind+file+":"+ref, "dir:"+out)
			if _, err := os.Stat(filepath.Join(out, s.Images[i].ID.Hex)); err != nil {
				t.Errorf("%s%s: the config is not that of the image: %v", kind, ref, err)
			}
			manifest, err := os.ReadFile(filepath.Join(out, "manifest.json"))
			if err != nil {
				t.Fatal(err)
			}
			if form == "keep" && kind == "oci-archive:" && !bytes.Equal(manifest, s.Images[i].Manifest) {
				t.Errorf("%s%s: the manifest is not the registry's", kind, ref)
			}
		}
	}
}

// Crane reads with the library that crane push is made of.
func (s *Shipment) Crane(t *testing.T, file, form string) {
	for i, ref := range s.Refs {
		img, err := crane.LoadTag(file, ref)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := img.ConfigName(); err != nil || id != s.Images[i].ID {
			t.Errorf("%s has the ID %s (%v), want %s", ref, id, err, s.Images[i].ID)
		}
		to := s.Reg.Addr + "/by-crane/" + form + ":" + Words[i]
		if err := crane.Push(img, to, crane.Insecure); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		back, err := crane.Pull(to, crane.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := back.ConfigName(); err != nil || id != s.Images[i].ID {
			t.Errorf("%s pushed by crane has the ID %s (%v)", ref, id, err)
		}
	}
}

// ServeAt runs fastpull serve, and waits until it answers.
func ServeAt(t *testing.T, addr string, args ...string) *Running {
	t.Helper()
	return NewUser(t).Serve(t, addr, args...)
}

// Serve does the same for a user.
func (u *User) Serve(t *testing.T, addr string, args ...string) *Running {
	t.Helper()
	r := u.Start(t, append([]string{"serve", "--listen", addr}, args...)...)
	if !Eventually(time.Minute, func() bool {
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

// PulledFrom has all clients pull the images from a registry at addr, an Engine and a
// new store at last, and takes them away from the Engine, which runs the nth.
func (s *Shipment) PulledFrom(t *testing.T, d *Dockerd, addr, store string, nth int) {
	t.Helper()
	for i, ref := range s.Refs {
		here := addr + strings.TrimPrefix(ref, s.Reg.Addr)
		d.Must(t, "pull", here)
		if got := d.Inspect(t, here).ID; got != s.Images[i].ID.String() {
			t.Errorf("%s has the ID %s, want %s", here, got, s.Images[i].ID)
		}
		if i == nth {
			if got := d.Must(t, "run", "--rm", "--network", "none", here); got != Words[i] {
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
		Run(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+here, "dir:"+filepath.Join(t.TempDir(), "out"))
		sum := Fastpull(t, "--store", store, "--json", here).Expect(t, 0).Summary(t)
		if sum.Images[0].ImageID != s.Images[i].ID.String() {
			t.Errorf("%+v", sum)
		}
	}
	for _, ref := range s.Refs {
		d.Must(t, "rmi", "-f", addr+strings.TrimPrefix(ref, s.Reg.Addr))
	}
}
