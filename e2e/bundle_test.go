//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

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
