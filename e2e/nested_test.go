//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// runnable returns an image that prints a word, for a platform.
func runnable(t *testing.T, word, platform string, lie func(*v1.ConfigFile)) image {
	t.Helper()
	return makeImage(t, imageSpec{
		layers: []layer{baseLayer(t, 0), smallLayer(t, "etc/word", word+"\n")}, cmd: []string{"/bin/cat", "/etc/word"},
		oci: true, platform: platform, lieInConfig: lie,
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
	reg := startRegistry(t, registryOptions{})
	im, other := runnable(t, "nested", "", nil), runnable(t, "other", foreign(), nil)
	d := startDockerd(t, dockerdOptions{})
	for name, named := range map[string]bool{"named": true, "bare": false} {
		t.Run(name, func(t *testing.T) {
			ref, top := reg.nested(t, name, named, other, im)
			expect := func(r result, what string) {
				t.Helper()
				got := r.expect(t, 0).summary(t).Images[0]
				if got.ImageID != im.id.String() || got.Digest != top.Digest.String() || got.Platform != "linux/"+runtime.GOARCH {
					t.Errorf("%s: %+v", what, got)
				}
			}
			store := filepath.Join(t.TempDir(), "store")
			expect(fastpull(t, "--store", store, "--dry-run", "--json", ref), "dry run")
			expect(fastpull(t, "--store", store, "--json", ref), "store")
			expect(d.user(t).fastpull(t, "--load", "--json", ref), "Engine")
			if got := d.must(t, "run", "--rm", "--network", "none", ref); got != "nested" {
				t.Errorf("docker run prints %q", got)
			}
			root := filepath.Join(t.TempDir(), "root")
			expect(fastpull(t, "--rootfs", root, "--json", ref), "rootfs")
			if word, err := os.ReadFile(filepath.Join(root, "etc/word")); string(word) != "nested\n" {
				t.Errorf("the root file system has the word %q, %v", word, err)
			}

			// What is damaged in a store comes again, and the doctor finds the image.
			config := filepath.Join(store, "image/overlay2/imagedb/content/sha256", im.id.Hex)
			if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
				t.Fatal(err)
			}
			fastpull(t, "verify", "--store", store).expect(t, 5)
			fastpull(t, "verify", "--store", store, "--repair").expect(t, 0)
			fastpull(t, "verify", "--store", store).expect(t, 0)
			found := d.user(t).fastpull(t, "doctor", "--json", ref).diagnoses(t)
			for _, want := range []expected{
				{"platforms", "ok", []string{foreign(), "a pull takes linux/" + runtime.GOARCH}},
				{"docker pull", "warning", []string{"an index in its index", "23.0", "fastpull " + ref}}, // d is 20.10
			} {
				if !want.in(found) {
					t.Errorf("the doctor does not say %+v:\n%+v", want, found)
				}
			}

			fastpull(t, "--store", store, "--platform", "linux/mips64le", ref).expect(t, 3, "linux/mips64le", foreign(), "linux/"+runtime.GOARCH)
			carried(t, reg, d, ref, top, im)
		})
	}
}

// carried makes bundles of an index of indexes, and brings it on from there.
func carried(t *testing.T, r *registry, d *dockerd, ref string, top v1.Descriptor, im image) {
	t.Helper()
	plain, kept := filepath.Join(t.TempDir(), "plain.tar"), filepath.Join(t.TempDir(), "kept.tar")
	fastpull(t, "bundle", "--platform", "linux/"+runtime.GOARCH+","+foreign(), "-o", plain, ref).expect(t, 0)
	fastpull(t, "bundle", "--platform", "all", "--layers", "keep", "-o", kept, ref).expect(t, 0)
	for _, file := range []string{plain, kept} {
		fastpull(t, "verify", file).expect(t, 0)
		fastpull(t, "inspect", file).expect(t, 0, "linux/"+runtime.GOARCH, foreign(), im.id.String())
		sum := fastpull(t, "load", "--store", filepath.Join(t.TempDir(), "store"), "--json", file).expect(t, 0).summary(t)
		if got := sum.Images[0]; got.ImageID != im.id.String() {
			t.Errorf("%s: loaded %+v", file, got)
		}
		d.must(t, "rmi", "-f", ref)
		d.must(t, "load", "-i", file)
		if got := d.must(t, "run", "--rm", "--network", "none", ref); got != "nested" {
			t.Errorf("%s: after docker load it prints %q", file, got)
		}
	}
	to := startRegistry(t, registryOptions{})
	fastpull(t, "push", "--to", to.addr, kept).expect(t, 0, top.Digest.String())
	addr := freePort(t)
	serveAt(t, addr, kept)
	for _, host := range []string{to.addr, addr} {
		again := host + strings.TrimPrefix(ref, r.addr)
		for p, id := range map[string]string{"linux/" + runtime.GOARCH: im.id.String(), foreign(): ""} {
			got := fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), "--json", "--platform", p, again).expect(t, 0).summary(t).Images[0]
			if id != "" && got.ImageID != id || got.Digest != top.Digest.String() || got.Platform != p {
				t.Errorf("%s for %s: %+v", again, p, got)
			}
		}
	}
}

// TestBareEntries chooses from an index whose entries do not name their platforms.
func TestBareEntries(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	im, other := runnable(t, "mine", "", nil), runnable(t, "other", foreign(), nil)
	reg.push(t, "several:part", im)
	reg.push(t, "several:part", other)
	reg.index(t, "several:1", entryOf(other, false), entryOf(im, false))
	reg.index(t, "attested:1", reg.attested(t, "attested", im, false)...)
	for _, repo := range []string{"several", "attested"} {
		ref := reg.addr + "/" + repo + ":1"
		got := fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), "--json", ref).expect(t, 0).summary(t).Images[0]
		if got.ImageID != im.id.String() {
			t.Errorf("%s: %+v", repo, got)
		}
		fastpull(t, "--store", filepath.Join(t.TempDir(), "store"), "--platform", "linux/mips64le", ref).expect(t, 3, "linux/mips64le", "only for", "linux/"+runtime.GOARCH)
	}
}

// TestUnnamedPlatform has Engines run an image whose config names neither a system nor an
// architecture, from a store and after a load.
func TestUnnamedPlatform(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	ref := reg.push(t, "scratch:1", runnable(t, "unnamed", "", unnamed))
	isolated := []string{"run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined", ref}
	for r, name := range map[release]string{debian: "20.10", today: "29", todayOverlay: "29 with overlay2"} {
		t.Run(name, func(t *testing.T) {
			store := filepath.Join(shortTempDir(t), "store")
			sum := fastpull(t, "--store", store, "--json", ref).expect(t, 0).summary(t)
			if got := sum.Images[0].Platform; got != "linux/"+runtime.GOARCH {
				t.Errorf("it is for %q", got)
			}
			fastpull(t, "verify", "--store", store).expect(t, 0)
			fastpull(t, "inspect", "--store", store, ref).expect(t, 0, "linux")
			if r != today {
				d := startDockerd(t, dockerdOptions{release: r, root: store})
				if got := d.must(t, isolated...); got != "unnamed" {
					t.Errorf("from a store it prints %q", got)
				}
				d.stop()
			}
			d := startDockerd(t, dockerdOptions{release: r})
			d.user(t).fastpull(t, "--load", ref).expect(t, 0)
			if got := d.must(t, isolated...); got != "unnamed" {
				t.Errorf("after a load it prints %q", got)
			}
			for i, form := range []string{"plain", "keep"} {
				file := filepath.Join(t.TempDir(), fmt.Sprint(i))
				fastpull(t, "bundle", "--layers", form, "-o", file, ref).expect(t, 0)
				d.must(t, "rmi", "-f", ref)
				d.must(t, "load", "-i", file)
				if got := d.must(t, isolated...); got != "unnamed" {
					t.Errorf("after docker load of %s layers it prints %q", form, got)
				}
			}
		})
	}
}
