//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
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

// TestBundleIsRead has everybody read a bundle, and what comes out is the images
// that went in.
func TestBundleIsRead(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	for n, form := range []string{"plain", "keep", "gzip", "zstd"} {
		file := s.bundle(t, "--layers", form)
		if form != "zstd" { // Docker reads that from 23.0 on
			t.Run(form+"/docker", func(t *testing.T) { s.docker(t, file, form, n) })
		}
		t.Run(form+"/containerd", func(t *testing.T) { s.containerd(t, file, form) })
		t.Run(form+"/podman", func(t *testing.T) { s.podman(t, file) })
		t.Run(form+"/skopeo", func(t *testing.T) { s.skopeo(t, file, form) })
		t.Run(form+"/crane", func(t *testing.T) { s.crane(t, file, form) })
	}
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

// ctr runs ctr for the containerd that a dockerd brings along.
func (d *dockerd) ctr(t *testing.T, args ...string) string {
	t.Helper()
	sock := filepath.Join(filepath.Dir(d.sock), "exec/containerd/containerd.sock")
	return run(t, "ctr", append([]string{"-a", sock, "-n", "test"}, args...)...)
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

// TestBundleIsTheSame makes bundles again at another time, on other cores, from
// a registry that answers in another order.
func TestBundleIsTheSame(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	for _, args := range [][]string{
		{"--layers=plain"}, {"--layers=keep"}, {"--layers=gzip"}, {"--layers=zstd"}, {"--layers=plain", "--split=4MiB"},
	} {
		var first string
		for _, way := range [][]string{{}, {"--jobs=1"}, {"--jobs=7", "--gzip=parallel"}, {"--limit-rate=40MB"}} {
			file := s.bundle(t, append(slices.Clone(args), way...)...)
			if parts, _ := filepath.Glob(file + ".part*"); parts != nil {
				run(t, "sh", "-c", "cat "+file+".part* > "+file)
			}
			if first == "" {
				first = file
				continue
			}
			run(t, "cmp", first, file)
		}
	}
}

// TestLoad loads bundles of all forms into an Engine whose unpigz hangs, and into a
// store; a second time nothing is sent.
func TestLoad(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	broken := plantUnpigz(t, "unpigz", "pigz")
	d := startDockerd(t, dockerdOptions{pathFirst: broken.dir})
	u := d.user(t)
	for n, form := range []string{"plain", "keep", "gzip", "zstd"} {
		file := s.bundle(t, "--layers", form)
		u.fastpull(t, "load", "--load", "--json", file).expect(t, 0)
		for i, ref := range s.refs {
			if got := d.inspect(t, ref).ID; got != s.images[i].id.String() {
				t.Errorf("%s: %s has the ID %s, want %s", form, ref, got, s.images[i].id)
			}
		}
		runs := n % len(s.refs)
		if got := d.must(t, "run", "--rm", "--network", "none", s.refs[runs]); got != words[runs] {
			t.Errorf("%s: %s prints %q", form, s.refs[runs], got)
		}
		if again := u.fastpull(t, "load", "--load", "--json", file).expect(t, 0).summary(t); again.BytesSent > 0 || again.Images[0].Status != "exists" {
			t.Errorf("%s: the second time %d bytes were sent", form, again.BytesSent)
		}
		d.must(t, append([]string{"rmi", "-f"}, s.refs...)...)
	}
	if pids := broken.starts(t); len(pids) > 0 {
		t.Errorf("the Engine has started unpigz: %v", pids)
	}

	// Archives of others: docker save, skopeo and podman.
	u.fastpull(t, append([]string{"--load"}, s.refs...)...).expect(t, 0)
	dir := t.TempDir()
	saved := filepath.Join(dir, "saved.tar")
	d.must(t, append([]string{"save", "-o", saved}, s.refs...)...)
	oci := filepath.Join(dir, "oci.tar")
	run(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+s.refs[1], "oci-archive:"+oci+":"+s.refs[1])
	archive := filepath.Join(dir, "docker.tar")
	run(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+s.refs[0], "docker-archive:"+archive+":"+s.refs[0])
	for file, want := range map[string][]int{saved: {0, 1, 2}, oci: {1}, archive: {0}} {
		fastpull(t, "verify", file).expect(t, 0)
		sum := fastpull(t, "load", "--store", filepath.Join(t.TempDir(), "store"), "--json", file).expect(t, 0).summary(t)
		if len(sum.Images) != len(want) {
			t.Fatalf("%s: %+v", file, sum.Images)
		}
		for _, i := range want {
			if !slices.ContainsFunc(sum.Images, func(im imageSummary) bool { return im.ImageID == s.images[i].id.String() && im.Reference == s.refs[i] }) {
				t.Errorf("%s: %s is not in %+v", file, s.refs[i], sum.Images)
			}
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

// TestServe has clients pull from a bundle that is served, and from a store: docker pull on a host
// whose unpigz hangs, since plain layers are served plain, crane, skopeo, and
// fastpull. Meanwhile others break off what they have asked for.
func TestServe(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	file := s.bundle(t, "--split", "4MiB")
	addr := freePort(t)
	r := serveAt(t, addr, file)
	broken := plantUnpigz(t, "unpigz", "pigz")
	d := startDockerd(t, dockerdOptions{pathFirst: broken.dir})
	store := filepath.Join(t.TempDir(), "store")
	stop := hammer(t, r, addr, "one:1")
	s.pulledFrom(t, d, addr, store, 0)
	stop()
	r.signal(t, syscall.SIGINT)
	r.wait(t).expect(t, 0, "docker pull "+addr+"/one:1")

	// The same from the store that fastpull has put them into.
	again := freePort(t)
	r = serveAt(t, again, "--store", store)
	stop = hammer(t, r, again, "one:1")
	s.pulledFrom(t, d, again, filepath.Join(t.TempDir(), "store"), 1)
	stop()
	if pids := broken.starts(t); len(pids) > 0 {
		t.Errorf("the Engine has started unpigz: %v", pids)
	}
	r.signal(t, syscall.SIGINT)
	r.wait(t).expect(t, 0, "docker pull "+again+"/one:1")
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

// TestSince loads a bundle that builds on another, by fastpull and by docker load. A
// layer that is on other layers now is in it again: an Engine gives none back.
func TestSince(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	for _, tc := range []struct {
		form string
		new  []string
		big  bool // the big layer is in it
	}{{"plain", []string{s.refs[0], s.refs[2]}, false}, {"plain", s.refs, true}, {"keep", []string{s.refs[2], s.refs[0]}, false}, {"gzip", []string{s.refs[0], s.refs[2]}, false}} {
		dir := t.TempDir()
		old, more := filepath.Join(dir, "old.tar"), filepath.Join(dir, "more.tar")
		fastpull(t, "bundle", "--layers", tc.form, "-o", old, s.refs[0]).expect(t, 0)
		fastpull(t, append([]string{"bundle", "--layers", tc.form, "-o", more, "--since", old}, tc.new...)...).expect(t, 0)
		fastpull(t, "verify", more).expect(t, 0)
		if big, small := size(t, old), size(t, more); small > big/10 != tc.big {
			t.Errorf("%s: what is new has %d bytes, the old bundle %d", tc.form, small, big)
		}
		store := filepath.Join(dir, "store")
		fastpull(t, "load", "--store", store, more).expect(t, 3, "--since")
		fastpull(t, "load", "--store", store, old).expect(t, 0)
		fastpull(t, "load", "--store", store, more).expect(t, 0)
		if tc.form != "plain" {
			continue
		}
		d := startDockerd(t, dockerdOptions{})
		u := d.user(t)
		d.must(t, "load", "-i", old)
		u.fastpull(t, "load", "--load", more).expect(t, 0)
		d.must(t, append([]string{"rmi", "-f"}, tc.new...)...)
		d.must(t, "load", "-i", old)
		d.must(t, "load", "-i", more)
		for i, ref := range s.refs {
			if !slices.Contains(tc.new, ref) {
				continue
			}
			if got := d.must(t, "run", "--rm", "--network", "none", ref); got != words[i] {
				t.Errorf("%s prints %q", ref, got)
			}
		}
	}
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestPush pushes bundles to an empty registry. What is there is not sent, and what
// another repository has is mounted.
func TestPush(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	for _, form := range []string{"plain", "keep", "gzip", "zstd"} {
		t.Run(form, func(t *testing.T) {
			file := s.bundle(t, "--layers", form)
			to := startRegistry(t, registryOptions{})
			var done []struct {
				Target, Digest string
				BytesSent      int64
			}
			push := func() (sent int64) {
				t.Helper()
				out := fastpull(t, "push", "--json", "--to", to.addr+"/from/afar", file).expect(t, 0).stdout
				if err := json.Unmarshal([]byte(out), &done); err != nil || len(done) != len(s.refs) {
					t.Fatalf("%v\n%s", err, out)
				}
				for _, d := range done {
					sent += d.BytesSent
				}
				return sent
			}
			first := push()
			if all := size(t, file); first > all || first < all/2 {
				t.Errorf("%d bytes were sent of a bundle of %d", first, all)
			}
			for i, ref := range s.refs {
				there := to.addr + "/from/afar" + strings.TrimPrefix(ref, s.reg.addr)
				if done[i].Target != there {
					t.Errorf("target %s, want %s", done[i].Target, there)
				}
				if form == "keep" && done[i].Digest != s.images[i].digest.String() {
					t.Errorf("%s has the digest %s, want %s", there, done[i].Digest, s.images[i].digest)
				}
				img, err := crane.Pull(there, crane.Insecure)
				if err == nil && (form == "keep" || form == "gzip") { // it takes all layers for gzip
					err = validate.Image(img)
				}
				if err != nil {
					t.Errorf("%s: %v", there, err)
				}
				sum := fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), "--json", there).expect(t, 0).summary(t)
				if sum.Images[0].ImageID != s.images[i].id.String() || sum.Images[0].Digest != done[i].Digest {
					t.Errorf("%+v", sum)
				}
			}
			if again := push(); again > first/1000 {
				t.Errorf("the second time %d bytes were sent", again)
			}
		})
	}

	t.Run("Since", func(t *testing.T) {
		old := filepath.Join(t.TempDir(), "old.tar")
		fastpull(t, "bundle", "-o", old, s.refs[0]).expect(t, 0)
		more := s.bundle(t, "--since", old)
		to := startRegistry(t, registryOptions{})
		fastpull(t, "push", "--to", to.addr, more).expect(t, 3, "bundle --since")
		fastpull(t, "push", "--to", to.addr, old).expect(t, 0)
		fastpull(t, "push", "--to", to.addr, more, s.refs[0]).expect(t, 0)
	})

	t.Run("Damaged", func(t *testing.T) {
		file := s.bundle(t)
		data, err := os.ReadFile(file)
		if err == nil {
			data[len(data)/2] ^= 1
			err = os.WriteFile(file, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		to := startRegistry(t, registryOptions{})
		fastpull(t, "push", "--to", to.addr, file).expect(t, 5, "damaged")
		if repos, err := crane.Catalog(to.addr, crane.Insecure); err != nil || len(repos) > 0 {
			t.Errorf("in the registry: %v, %v", repos, err)
		}
	})
}
