//go:build e2e

package destinations

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/e2e/kit"
)

// runnable returns an image that prints a word, for a platform.
func runnable(t *testing.T, word, platform string, lie func(*v1.ConfigFile)) kit.Image {
	t.Helper()
	return kit.MakeImage(t, kit.ImageSpec{
		Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.SmallLayer(t, "etc/word", word+"\n")}, Cmd: []string{"/bin/cat", "/etc/word"},
		OCI: true, Platform: platform, LieInConfig: lie,
	})
}

// unnamed is a lie that leaves the platform out of a config, as builders do that begin with
// an empty one.
func unnamed(c *v1.ConfigFile) { c.OS, c.Architecture, c.Variant = "", "", "" }

// foreign is a platform that this machine is not.
func foreign() string {
	if runtime.GOARCH == "s390x" {
		return "linux/riscv64"
	}
	return "linux/s390x"
}

// TestNestedIndex brings an image from an index in an index, as projects publish it that
// build each platform by itself, wherever images go.
func TestNestedIndex(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im, other := runnable(t, "nested", "", nil), runnable(t, "other", foreign(), nil)
	d := kit.StartDockerd(t, kit.DockerdOptions{})
	for name, named := range map[string]bool{"named": true, "bare": false} {
		t.Run(name, func(t *testing.T) {
			ref, top := reg.Nested(t, name, named, other, im)
			expect := func(r kit.Result, what string) {
				t.Helper()
				got := r.Expect(t, 0).Summary(t).Images[0]
				if got.ImageID != im.ID.String() || got.Digest != top.Digest.String() || got.Platform != "linux/"+runtime.GOARCH {
					t.Errorf("%s: %+v", what, got)
				}
			}
			store := filepath.Join(t.TempDir(), "store")
			expect(kit.Fastpull(t, "--store", store, "--dry-run", "--json", ref), "dry run")
			expect(kit.Fastpull(t, "--store", store, "--json", ref), "store")
			expect(d.User(t).Fastpull(t, "--load", "--json", ref), "Engine")
			if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != "nested" {
				t.Errorf("docker run prints %q", got)
			}
			root := filepath.Join(t.TempDir(), "root")
			expect(kit.Fastpull(t, "--rootfs", root, "--json", ref), "rootfs")
			if word, err := os.ReadFile(filepath.Join(root, "etc/word")); string(word) != "nested\n" {
				t.Errorf("the root file system has the word %q, %v", word, err)
			}

			// What is damaged in a store comes again, and the doctor finds the image.
			config := filepath.Join(store, "image/overlay2/imagedb/content/sha256", im.ID.Hex)
			if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
			kit.Fastpull(t, "verify", "--store", store).Expect(t, 5)
			kit.Fastpull(t, "verify", "--store", store, "--repair").Expect(t, 0)
			kit.Fastpull(t, "verify", "--store", store).Expect(t, 0)
			found := d.User(t).Fastpull(t, "doctor", "--json", ref).Diagnoses(t)
			for _, want := range []kit.Expected{
				{What: "platforms", Level: "ok", Words: []string{foreign(), "a pull takes linux/" + runtime.GOARCH}},
				{What: "docker pull", Level: "warning", Words: []string{"an index in its index", "23.0", "fastpull " + ref}}, // d is 20.10
			} {
				if !want.In(found) {
					t.Errorf("the doctor does not say %+v:\n%+v", want, found)
				}
			}

			kit.Fastpull(t, "--store", store, "--platform", "linux/mips64le", ref).Expect(t, 3, "linux/mips64le", foreign(), "linux/"+runtime.GOARCH)
			carried(t, reg, d, ref, top, im)
		})
	}
}

// carried makes bundles of an index of indexes, and brings it on from there.
func carried(t *testing.T, r *kit.Registry, d *kit.Dockerd, ref string, top v1.Descriptor, im kit.Image) {
	t.Helper()
	plain, kept := filepath.Join(t.TempDir(), "plain.tar"), filepath.Join(t.TempDir(), "kept.tar")
	kit.Fastpull(t, "bundle", "--platform", "linux/"+runtime.GOARCH+","+foreign(), "-o", plain, ref).Expect(t, 0)
	kit.Fastpull(t, "bundle", "--platform", "all", "--layers", "keep", "-o", kept, ref).Expect(t, 0)
	for _, file := range []string{plain, kept} {
		kit.Fastpull(t, "verify", file).Expect(t, 0)
		kit.Fastpull(t, "inspect", file).Expect(t, 0, "linux/"+runtime.GOARCH, foreign(), im.ID.String())
		sum := kit.Fastpull(t, "load", "--store", filepath.Join(t.TempDir(), "store"), "--json", file).Expect(t, 0).Summary(t)
		if got := sum.Images[0]; got.ImageID != im.ID.String() {
			t.Errorf("%s: loaded %+v", file, got)
		}
		d.Must(t, "rmi", "-f", ref)
		d.Must(t, "load", "-i", file)
		if got := d.Must(t, "run", "--rm", "--network", "none", ref); got != "nested" {
			t.Errorf("%s: after docker load it prints %q", file, got)
		}
	}
	to := kit.StartRegistry(t, kit.RegistryOptions{})
	kit.Fastpull(t, "push", "--to", to.Addr, kept).Expect(t, 0, top.Digest.String())
	addr := kit.FreePort(t)
	kit.ServeAt(t, addr, kept)
	for _, host := range []string{to.Addr, addr} {
		again := host + strings.TrimPrefix(ref, r.Addr)
		for p, id := range map[string]string{"linux/" + runtime.GOARCH: im.ID.String(), foreign(): ""} {
			got := kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), "--json", "--platform", p, again).Expect(t, 0).Summary(t).Images[0]
			if id != "" && got.ImageID != id || got.Digest != top.Digest.String() || got.Platform != p {
				t.Errorf("%s for %s: %+v", again, p, got)
			}
		}
	}
}

// TestBareEntries chooses from an index whose entries do not name their platforms.
func TestBareEntries(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im, other := runnable(t, "mine", "", nil), runnable(t, "other", foreign(), nil)
	reg.Push(t, "several:part", im)
	reg.Push(t, "several:part", other)
	reg.Index(t, "several:1", kit.EntryOf(other, false), kit.EntryOf(im, false))
	reg.Index(t, "attested:1", reg.Attested(t, "attested", im, false)...)
	for _, repo := range []string{"several", "attested"} {
		ref := reg.Addr + "/" + repo + ":1"
		got := kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), "--json", ref).Expect(t, 0).Summary(t).Images[0]
		if got.ImageID != im.ID.String() {
			t.Errorf("%s: %+v", repo, got)
		}
		kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), "--platform", "linux/mips64le", ref).Expect(t, 3, "linux/mips64le", "only for", "linux/"+runtime.GOARCH)
	}
}

// TestUnnamedPlatform has Engines run an image whose config names neither a system nor an
// architecture, from a store and after a load.
func TestUnnamedPlatform(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "scratch:1", runnable(t, "unnamed", "", unnamed))
	isolated := []string{"run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined", ref}
	for r, name := range map[kit.Release]string{kit.Debian: "20.10", kit.Today: "29", kit.TodayOverlay: "29 with overlay2"} {
		t.Run(name, func(t *testing.T) {
			store := filepath.Join(kit.ShortTempDir(t), "store")
			sum := kit.Fastpull(t, "--store", store, "--json", ref).Expect(t, 0).Summary(t)
			if got := sum.Images[0].Platform; got != "linux/"+runtime.GOARCH {
				t.Errorf("it is for %q", got)
			}
			kit.Fastpull(t, "verify", "--store", store).Expect(t, 0)
			kit.Fastpull(t, "inspect", "--store", store, ref).Expect(t, 0, "linux")
			if r != kit.Today {
				d := kit.StartDockerd(t, kit.DockerdOptions{Release: r, Root: store})
				if got := d.Must(t, isolated...); got != "unnamed" {
					t.Errorf("from a store it prints %q", got)
				}
				d.Stop()
			}
			d := kit.StartDockerd(t, kit.DockerdOptions{Release: r})
			d.User(t).Fastpull(t, "--load", ref).Expect(t, 0)
			if got := d.Must(t, isolated...); got != "unnamed" {
				t.Errorf("after a load it prints %q", got)
			}
			for i, form := range []string{"plain", "keep"} {
				file := filepath.Join(t.TempDir(), fmt.Sprint(i))
				kit.Fastpull(t, "bundle", "--layers", form, "-o", file, ref).Expect(t, 0)
				d.Must(t, "rmi", "-f", ref)
				d.Must(t, "load", "-i", file)
				if got := d.Must(t, isolated...); got != "unnamed" {
					t.Errorf("after docker load of %s layers it prints %q", form, got)
				}
			}
		})
	}
}
