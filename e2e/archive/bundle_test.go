//go:build e2e

package archive

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestBundleIsRead has everybody read a bundle, and what comes out is the images
// that went in.
func TestBundleIsRead(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	for n, form := range []string{"plain", "keep", "gzip", "zstd"} {
		file := s.Bundle(t, "--layers", form)
		if form != "zstd" { // Docker reads that from 23.0 on
			t.Run(form+"/docker", func(t *testing.T) { s.Docker(t, file, form, n) })
		}
		t.Run(form+"/containerd", func(t *testing.T) { s.Containerd(t, file, form) })
		t.Run(form+"/podman", func(t *testing.T) { s.Podman(t, file) })
		t.Run(form+"/skopeo", func(t *testing.T) { s.Skopeo(t, file, form) })
		t.Run(form+"/crane", func(t *testing.T) { s.Crane(t, file, form) })
	}
}

// TestBundleIsTheSame makes bundles again at another time, on other cores, from
// a registry that answers in another order.
func TestBundleIsTheSame(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	for _, args := range [][]string{
		{"--layers=plain"}, {"--layers=keep"}, {"--layers=gzip"}, {"--layers=zstd"}, {"--layers=plain", "--split=4MiB"},
	} {
		var first string
		for _, way := range [][]string{{}, {"--jobs=1"}, {"--jobs=7", "--gzip=parallel"}, {"--limit-rate=40MB"}} {
			file := s.Bundle(t, append(slices.Clone(args), way...)...)
			if parts, _ := filepath.Glob(file + ".part*"); parts != nil {
				kit.Run(t, "sh", "-c", "cat "+file+".part* > "+file)
			}
			if first == "" {
				first = file
				continue
			}
			kit.Run(t, "cmp", first, file)
		}
	}
}

// TestLoad loads bundles of all forms into an Engine whose unpigz hangs, and into a
// store; a second time nothing is sent.
func TestLoad(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	broken := kit.PlantUnpigz(t, "unpigz", "pigz")
	d := kit.StartDockerd(t, kit.DockerdOptions{PathFirst: broken.Dir})
	u := d.User(t)
	for n, form := range []string{"plain", "keep", "gzip", "zstd"} {
		file := s.Bundle(t, "--layers", form)
		u.Fastpull(t, "load", "--load", "--json", file).Expect(t, 0)
		for i, ref := range s.Refs {
			if got := d.Inspect(t, ref).ID; got != s.Images[i].ID.String() {
				t.Errorf("%s: %s has the ID %s, want %s", form, ref, got, s.Images[i].ID)
			}
		}
		runs := n % len(s.Refs)
		if got := d.Must(t, "run", "--rm", "--network", "none", s.Refs[runs]); got != kit.Words[runs] {
			t.Errorf("%s: %s prints %q", form, s.Refs[runs], got)
		}
		if again := u.Fastpull(t, "load", "--load", "--json", file).Expect(t, 0).Summary(t); again.BytesSent > 0 || again.Images[0].Status != "exists" {
			t.Errorf("%s: the second time %d bytes were sent", form, again.BytesSent)
		}
		d.Must(t, append([]string{"rmi", "-f"}, s.Refs...)...)
	}
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has started unpigz: %v", pids)
	}

	// Archives of others: docker save, skopeo and podman.
	u.Fastpull(t, append([]string{"--load"}, s.Refs...)...).Expect(t, 0)
	dir := t.TempDir()
	saved := filepath.Join(dir, "saved.tar")
	d.Must(t, append([]string{"save", "-o", saved}, s.Refs...)...)
	oci := filepath.Join(dir, "oci.tar")
	kit.Run(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+s.Refs[1], "oci-archive:"+oci+":"+s.Refs[1])
	archive := filepath.Join(dir, "docker.tar")
	kit.Run(t, "skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "docker://"+s.Refs[0], "docker-archive:"+archive+":"+s.Refs[0])
	for file, want := range map[string][]int{saved: {0, 1, 2}, oci: {1}, archive: {0}} {
		kit.Fastpull(t, "verify", file).Expect(t, 0)
		sum := kit.Fastpull(t, "load", "--store", filepath.Join(t.TempDir(), "store"), "--json", file).Expect(t, 0).Summary(t)
		if len(sum.Images) != len(want) {
			t.Fatalf("%s: %+v", file, sum.Images)
		}
		for _, i := range want {
			if !slices.ContainsFunc(sum.Images, func(im kit.ImageSummary) bool {
				return im.ImageID == s.Images[i].ID.String() && im.Reference == s.Refs[i]
			}) {
				t.Errorf("%s: %s is not in %+v", file, s.Refs[i], sum.Images)
			}
		}
	}
}

// TestSince loads a bundle that builds on another, by fastpull and by docker load. A
// layer that is on other layers now is in it again: an Engine gives none back.
func TestSince(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	for _, tc := range []struct {
		form string
		new  []string
		big  bool // the big layer is in it
	}{{"plain", []string{s.Refs[0], s.Refs[2]}, false}, {"plain", s.Refs, true}, {"keep", []string{s.Refs[2], s.Refs[0]}, false}, {"gzip", []string{s.Refs[0], s.Refs[2]}, false}} {
		dir := t.TempDir()
		old, more := filepath.Join(dir, "old.tar"), filepath.Join(dir, "more.tar")
		kit.Fastpull(t, "bundle", "--layers", tc.form, "-o", old, s.Refs[0]).Expect(t, 0)
		kit.Fastpull(t, append([]string{"bundle", "--layers", tc.form, "-o", more, "--since", old}, tc.new...)...).Expect(t, 0)
		kit.Fastpull(t, "verify", more).Expect(t, 0)
		if big, small := kit.Size(t, old), kit.Size(t, more); small > big/10 != tc.big {
			t.Errorf("%s: what is new has %d bytes, the old bundle %d", tc.form, small, big)
		}
		store := filepath.Join(dir, "store")
		kit.Fastpull(t, "load", "--store", store, more).Expect(t, 3, "--since")
		kit.Fastpull(t, "load", "--store", store, old).Expect(t, 0)
		kit.Fastpull(t, "load", "--store", store, more).Expect(t, 0)
		if tc.form != "plain" {
			continue
		}
		d := kit.StartDockerd(t, kit.DockerdOptions{})
		u := d.User(t)
		d.Must(t, "load", "-i", old)
		u.Fastpull(t, "load", "--load", more).Expect(t, 0)
		d.Must(t, append([]string{"rmi", "-f"}, tc.new...)...)
		d.Must(t, "load", "-i", old)
		d.Must(t, "load", "-i", more)
		for i, ref := range s.Refs {
			if !slices.Contains(tc.new, ref) {
				continue
			}
			if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != kit.Words[i] {
				t.Errorf("%s prints %q", ref, got)
			}
		}
	}
}

// TestPush pushes bundles to an empty registry. What is there is not sent, and what
// another repository has is mounted.
func TestPush(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	for _, form := range []string{"plain", "keep", "gzip", "zstd"} {
		t.Run(form, func(t *testing.T) {
			file := s.Bundle(t, "--layers", form)
			to := kit.StartRegistry(t, kit.RegistryOptions{})
			var done []struct {
				Target, Digest string
				BytesSent      int64
			}
			push := func() (sent int64) {
				t.Helper()
				out := kit.Fastpull(t, "push", "--json", "--to", to.Addr+"/from/afar", file).Expect(t, 0).Stdout
				if err := json.Unmarshal([]byte(out), &done); err != nil || len(done) != len(s.Refs) {
					t.Fatalf("%v\n%s", err, out)
				}
				for _, d := range done {
					sent += d.BytesSent
				}
				return sent
			}
			first := push()
			if all := kit.Size(t, file); first > all || first < all/2 {
				t.Errorf("%d bytes were sent of a bundle of %d", first, all)
			}
			for i, ref := range s.Refs {
				there := to.Addr + "/from/afar" + strings.TrimPrefix(ref, s.Reg.Addr)
				if done[i].Target != there {
					t.Errorf("target %s, want %s", done[i].Target, there)
				}
				if form == "keep" && done[i].Digest != s.Images[i].Digest.String() {
					t.Errorf("%s has the digest %s, want %s", there, done[i].Digest, s.Images[i].Digest)
				}
				img, err := crane.Pull(there, crane.Insecure)
				if err == nil && (form == "keep" || form == "gzip") { // it takes all layers for gzip
					err = validate.Image(img)
				}
				if err != nil {
					t.Errorf("%s: %v", there, err)
				}
				sum := kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), "--json", there).Expect(t, 0).Summary(t)
				if sum.Images[0].ImageID != s.Images[i].ID.String() || sum.Images[0].Digest != done[i].Digest {
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
		kit.Fastpull(t, "bundle", "-o", old, s.Refs[0]).Expect(t, 0)
		more := s.Bundle(t, "--since", old)
		to := kit.StartRegistry(t, kit.RegistryOptions{})
		kit.Fastpull(t, "push", "--to", to.Addr, more).Expect(t, 3, "bundle --since")
		kit.Fastpull(t, "push", "--to", to.Addr, old).Expect(t, 0)
		kit.Fastpull(t, "push", "--to", to.Addr, more, s.Refs[0]).Expect(t, 0)
	})

	t.Run("Damaged", func(t *testing.T) {
		file := s.Bundle(t)
		data, err := os.ReadFile(file)
		if err == nil {
			data[len(data)/2] ^= 1
			err = os.WriteFile(file, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		to := kit.StartRegistry(t, kit.RegistryOptions{})
		kit.Fastpull(t, "push", "--to", to.Addr, file).Expect(t, 5, "damaged")
		if repos, err := crane.Catalog(to.Addr, crane.Insecure); err != nil || len(repos) > 0 {
			t.Errorf("in the registry: %v, %v", repos, err)
		}
	})
}
