//go:build e2e

package destinations

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// target is a destination on a file system that a test has made.
type target struct {
	name   string
	inodes bool // it needs many for a layer of many files
	store  bool
	// flags say where the image is to go, for a file system mounted at dir.
	flags func(dir string) []string
}

// targets lists the ways in which a pull writes to a disk; an Engine's are the
// layers that wait for it.
var targets = []target{
	{"Store", true, true, func(dir string) []string { return []string{"--store", filepath.Join(dir, "store")} }},
	{"Rootfs", true, false, func(dir string) []string { return []string{"--rootfs", filepath.Join(dir, "rootfs")} }},
	{"Output", false, false, func(dir string) []string { return []string{"-o", filepath.Join(dir, "out.tar")} }},
	{"Load", false, false, func(dir string) []string { return []string{"--load", "--temp-dir", dir} }},
}

// TestDisk pulls to disks that are too small, fill up meanwhile, are read-only or
// cannot do what is needed. Every time it is said what is missing and where, and
// the disk is what it was, in names, blocks and inodes.
func TestDisk(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	seed := reg.Push(t, "seed:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "etc/seed", "seed")}}))
	big := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 9<<20, 1), kit.NoiseLayer(t, 3<<20, 2)}})
	ref := reg.Push(t, "img:tag", big)
	bomb := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.MakeLayer(t, kit.Gzipped, kit.File("zeros", 0o644, string(make([]byte, 64<<20))))}})
	bombRef := reg.Push(t, "bomb:tag", bomb)
	var files []kit.Entry
	for i := range 300 {
		files = append(files, kit.File(fmt.Sprintf("etc/file-%03d", i), 0o644, "x"))
	}
	many := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.MakeLayer(t, kit.Gzipped, files...)}})
	manyRef := reg.Push(t, "many:tag", many)
	d := kit.StartDockerd(t, kit.DockerdOptions{})
	u := d.User(t)
	g := kit.StartGate(t, reg)
	gated := g.Addr + "/img:tag"

	// fails runs a pull that has to fail with that code, and checks that nothing
	// of it stays. In the midst of it, disturb is called.
	fails := func(t *testing.T, dir string, flags []string, ref string, code int, disturb func(*kit.Running)) kit.Result {
		t.Helper()
		before, tree := kit.UsageOf(t, dir), kit.ReadTree(t, dir, kit.TreeOptions{NoTimes: true})
		if disturb != nil {
			flags = append(flags, "--no-resume") // it is waited for a part of the blobs
		}
		r := u.Start(t, append(flags, ref)...)
		if disturb != nil {
			disturb(r)
		}
		res := r.Wait(t).Expect(t, code, "hint:")
		if disturb != nil {
			if err := os.Remove(filepath.Join(dir, "occupied")); err != nil {
				t.Fatal(err)
			}
		}
		if after := kit.UsageOf(t, dir); after != before {
			t.Errorf("left on the disk: %+v, before there was %+v", after, before)
		}
		kit.ExpectSame(t, "left behind", kit.CompareNodes(kit.ReadTree(t, dir, kit.TreeOptions{NoTimes: true}), tree))
		if list := d.Must(t, "images", "-aq"); list != "" {
			t.Errorf("the Engine has images: %s", list)
		}
		return res
	}
	// noLayers checks that of an image nothing but its config was fetched.
	noLayers := func(t *testing.T, im kit.Image) {
		t.Helper()
		tr := reg.Traffic(t)
		for _, l := range im.Layers {
			if gets, n := tr.Blob(l.Digest); gets > 0 {
				t.Errorf("%d bytes of layer %s were fetched", n, l.Digest)
			}
		}
	}
	// ext4 has no blocks that only root may use, and one image if it is a store.
	ext4 := func(t *testing.T, p target, mib int64) (dir string, flags []string) {
		t.Helper()
		dir = kit.NewExt4(t, mib, "-m", "0", "-N", "512")
		flags = p.flags(dir)
		if p.store {
			kit.Fastpull(t, append(flags, seed)...).Expect(t, 0)
		}
		reg.Traffic(t)
		return dir, flags
	}

	for _, p := range targets {
		t.Run(p.name, func(t *testing.T) {
			t.Run("TooSmall", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				kit.Occupy(t, dir, 11<<20)
				fails(t, dir, flags, ref, 1, nil).Expect(t, 1, "at least 12.4 MB are needed", "11.5 MB are free at "+dir)
				noLayers(t, big)
			})
			t.Run("NoInodes", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				kit.OccupyInodes(t, dir, 1)
				fails(t, dir, flags, ref, 1, nil).Expect(t, 1, dir)
				noLayers(t, big)
			})
			t.Run("TooManyFiles", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				kit.OccupyInodes(t, dir, 100)
				if !p.inodes {
					u.Fastpull(t, append(flags, manyRef)...).Expect(t, 0)
					if p.name == "Load" {
						d.Must(t, "rmi", manyRef)
					}
					return
				}
				fails(t, dir, flags, manyRef, 1, nil).Expect(t, 1, many.Layers[0].Digest.String(), "etc/file-", "inode")
			})
			// These take four times the room that they have in the tar. It is the
			// file system that says so, or what is still to be written.
			t.Run("TinyFiles", func(t *testing.T) {
				if !p.inodes {
					return
				}
				dir, flags := ext4(t, p, 32)
				kit.Occupy(t, dir, 900<<10)
				res := fails(t, dir, flags, manyRef, 1, nil).Expect(t, 1, many.Layers[0].Digest.String())
				if !strings.Contains(res.Stderr, "etc/file-") {
					res.Expect(t, 1, "the disk would be full: at least", " are free at "+dir)
				}
			})
			t.Run("Bomb", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				fails(t, dir, flags, bombRef, 1, nil).Expect(t, 1, bomb.Layers[0].Digest.String(), " are free")
			})
			// Somebody else takes the room: a good part, so that it shows before
			// the disk is full, or all at once.
			for name, leave := range map[string]int64{"Filling": 2 << 20, "Filled": 64 << 10} {
				t.Run(name, func(t *testing.T) {
					dir, flags := ext4(t, p, 48)
					g.Arm(6 << 20)
					defer g.Open()
					res := fails(t, dir, flags, gated, 1, func(r *kit.Running) {
						g.WaitReached(t, &r.Err)
						kit.Settle(t, dir)
						kit.Occupy(t, dir, leave)
						kit.Settle(t, dir) // for longer than fastpull does without a look
						g.Open()
					})
					blame := func(l kit.Layer) bool { return strings.Contains(res.Stderr, l.Digest.String()) }
					if !slices.ContainsFunc(big.Layers, blame) {
						t.Errorf("names no layer\n%s", res.Stderr)
					}
					res.Expect(t, 1, "would be full", "free at "+dir)
				})
			}
			if p.name != "Load" { // a layer whose turn has come needs no file
				t.Run("ReadOnly", func(t *testing.T) {
					dir, flags := ext4(t, p, 32)
					if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
						t.Fatal(err)
					}
					fails(t, dir, flags, ref, 1, nil).Expect(t, 1, dir, "read-only")
					noLayers(t, big)
				})
			}
			t.Run("JustEnough", func(t *testing.T) {
				dir, flags := ext4(t, p, 64)
				leave := int64(13 << 20)
				if p.name == "Output" {
					leave = 26 << 20 // the layers, and the archive beside them
				}
				kit.Occupy(t, dir, leave)
				u.Fastpull(t, append(flags, ref)...).Expect(t, 0)
				if p.name == "Load" {
					d.Must(t, "rmi", ref)
				}
			})
		})
	}

	// There is room for the layers, but not for files of them beside the archive. None
	// is needed where they wait as the blobs that they came as; without those one of two
	// waits in a file until the other is written.
	t.Run("OutputBesideLayers", func(t *testing.T) {
		dir := kit.NewExt4(t, 48, "-m", "0")
		kit.Occupy(t, dir, 14<<20)
		out := filepath.Join(dir, "out.tar")
		fails(t, dir, []string{"--no-resume", "-o", out}, ref, 1, nil).Expect(t, 1, "out.tar", "MB are needed")
		kit.Fastpull(t, "-o", out, ref).Expect(t, 0)
	})

	for _, tc := range []struct {
		name  string
		make  func(t *testing.T) (dir string)
		lacks string
	}{
		{"NoTypes", func(t *testing.T) string { return kit.NewExt4(t, 16, "-O", "^filetype") }, "d_type"},
		{"NoXattrs", func(t *testing.T) string { return kit.NewMount(t, "ramfs", "") }, "trusted.overlay.opaque"},
		{"InAnOverlay", func(t *testing.T) string {
			base := kit.NewMount(t, "tmpfs", "size=64m")
			for _, name := range []string{"lower", "upper", "work"} {
				if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			return kit.NewMount(t, "overlay", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base))
		}, "whiteouts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tc.make(t)
			reg.Traffic(t)
			fails(t, dir, []string{"--store", filepath.Join(dir, "store")}, ref, 1, nil).Expect(t, 1, dir, "lacks", tc.lacks, "ftype=1")
			if n := reg.Traffic(t).Manifests(); n > 0 {
				t.Errorf("%d manifests were fetched before the place was looked at", n)
			}
			// A root file system needs none of it.
			kit.Fastpull(t, "--rootfs", filepath.Join(dir, "rootfs"), seed).Expect(t, 0)
		})
	}
}
