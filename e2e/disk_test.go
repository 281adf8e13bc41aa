//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// place is a destination on a file system that a test has made.
type place struct {
	name   string
	inodes bool // it needs many for a layer of many files
	store  bool
	// flags say where the image is to go, for a file system mounted at dir.
	flags func(dir string) []string
}

// places lists the ways in which a pull writes to a disk; an Engine's are the
// layers that wait for it.
var places = []place{
	{"Store", true, true, func(dir string) []string { return []string{"--store", filepath.Join(dir, "store")} }},
	{"Rootfs", true, false, func(dir string) []string { return []string{"--rootfs", filepath.Join(dir, "rootfs")} }},
	{"Output", false, false, func(dir string) []string { return []string{"-o", filepath.Join(dir, "out.tar")} }},
	{"Load", false, false, func(dir string) []string { return []string{"--load", "--temp-dir", dir} }},
}

// TestFullDisk removes from a store on a disk where nothing can be made: no block is free,
// or no inode. On one that is read-only, it is said that it is.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	// So many layers that one block of a directory does not hold all their names.
	shared := smallLayer(t, "etc/shared", "shared")
	var layers []layer
	for i := range 90 {
		layers = append(layers, smallLayer(t, fmt.Sprintf("etc/layer-%02d", i), "x"))
	}
	many := reg.push(t, "many:1", makeImage(t, imageSpec{layers: append([]layer{shared}, layers...)}))
	alone := reg.push(t, "alone:1", makeImage(t, imageSpec{layers: []layer{shared}, label: "alone"}))
	one := reg.push(t, "one:1", makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 1<<20, 31)}}))
	for name, fill := range map[string]func(t *testing.T, dir string){
		"NoBlocks": func(t *testing.T, dir string) {
			occupy(t, dir, 256<<10) // fallocate needs some blocks for itself
			for i := 0; os.WriteFile(filepath.Join(dir, fmt.Sprint("small-", i)), []byte("x"), 0o600) == nil; i++ {
			}
		},
		"NoInodes": func(t *testing.T, dir string) { occupyInodes(t, dir, 0) },
	} {
		mounted := func(t *testing.T) (dir, store string) {
			dir = newExt4(t, 48, "-m", "0", "-N", "2048")
			return dir, filepath.Join(dir, "store")
		}
		full := func(t *testing.T, dir string) {
			fill(t, dir)
			if err := os.Mkdir(filepath.Join(dir, "new"), 0o700); !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("there is room: %v", err)
			}
		}
		t.Run(name+"/Remove", func(t *testing.T) {
			dir, store := mounted(t)
			fastpull(t, "--store", store, many, alone).expect(t, 0)
			full(t, dir)
			fastpull(t, "rm", "--store", store, many).expect(t, 0, "untagged "+many, "deleted sha256:", "90 layers removed")
			fastpull(t, "verify", "--store", store).expect(t, 0, "1 image, 1 layer")
			expectNothingLoose(t, store)
			expectClean(t, store)
		})
		t.Run(name+"/RemoveAll", func(t *testing.T) {
			dir, store := mounted(t)
			fastpull(t, "--store", store, one).expect(t, 0)
			full(t, dir)
			fastpull(t, "rm", "--store", store, one).expect(t, 0, "untagged "+one, "deleted sha256:", "1 layer removed")
			expectNothingLoose(t, store)
			expectClean(t, store)
		})
		t.Run(name+"/Prune", func(t *testing.T) {
			dir, store := mounted(t)
			fastpull(t, "--store", store, one).expect(t, 0)
			for _, name := range []string{"imagedb/content/sha256", "repositories.json"} {
				if err := os.RemoveAll(filepath.Join(store, "image/overlay2", name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(store, "image/overlay2/imagedb/content/sha256"), 0o700); err != nil {
				t.Fatal(err)
			}
			full(t, dir)
			fastpull(t, "prune", "--store", store).expect(t, 0, "1 layer, ")
			expectNothingLoose(t, store)
			expectClean(t, store)
		})
	}
	t.Run("ReadOnly", func(t *testing.T) {
		dir := newExt4(t, 48, "-m", "0")
		store := filepath.Join(dir, "store")
		fastpull(t, "--store", store, alone).expect(t, 0)
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		fastpull(t, "rm", "--store", store, alone).expect(t, 1, store, "read-only", "hint:")
		fastpull(t, "prune", "--store", store).expect(t, 1, store, "read-only", "hint:")
		fastpull(t, "verify", "--store", store).expect(t, 0, "1 image, 1 layer")
	})
}

// TestDisk pulls to disks that are too small, fill up meanwhile, are read-only or
// cannot do what is needed. Every time it is said what is missing and where, and
// the disk is what it was, in names, blocks and inodes.
func TestDisk(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	seed := reg.push(t, "seed:tag", makeImage(t, imageSpec{layers: []layer{smallLayer(t, "etc/seed", "seed")}}))
	big := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 9<<20, 1), noiseLayer(t, 3<<20, 2)}})
	ref := reg.push(t, "img:tag", big)
	bomb := makeImage(t, imageSpec{layers: []layer{makeLayer(t, gzipped, file("zeros", 0o644, string(make([]byte, 64<<20))))}})
	bombRef := reg.push(t, "bomb:tag", bomb)
	var files []entry
	for i := range 300 {
		files = append(files, file(fmt.Sprintf("etc/file-%03d", i), 0o644, "x"))
	}
	many := makeImage(t, imageSpec{layers: []layer{makeLayer(t, gzipped, files...)}})
	manyRef := reg.push(t, "many:tag", many)
	d := startDockerd(t, dockerdOptions{})
	u := d.user(t)
	g := startGate(t, reg)
	gated := g.addr + "/img:tag"

	// fails runs a pull that has to fail with that code, and checks that nothing
	// of it stays. In the midst of it, disturb is called.
	fails := func(t *testing.T, dir string, flags []string, ref string, code int, disturb func(*running)) result {
		t.Helper()
		before, tree := usageOf(t, dir), readTree(t, dir, treeOptions{noTimes: true})
		if disturb != nil {
			flags = append(flags, "--no-resume") // it is waited for a part of the blobs
		}
		r := u.start(t, append(flags, ref)...)
		if disturb != nil {
			disturb(r)
		}
		res := r.wait(t).expect(t, code, "hint:")
		if disturb != nil {
			if err := os.Remove(filepath.Join(dir, "occupied")); err != nil {
				t.Fatal(err)
			}
		}
		if after := usageOf(t, dir); after != before {
			t.Errorf("left on the disk: %+v, before there was %+v", after, before)
		}
		expectSame(t, "left behind", compareNodes(readTree(t, dir, treeOptions{noTimes: true}), tree))
		if list := d.must(t, "images", "-aq"); list != "" {
			t.Errorf("the Engine has images: %s", list)
		}
		return res
	}
	// noLayers checks that of an image nothing but its config was fetched.
	noLayers := func(t *testing.T, im image) {
		t.Helper()
		tr := reg.traffic(t)
		for _, l := range im.layers {
			if gets, n := tr.blob(l.digest); gets > 0 {
				t.Errorf("%d bytes of layer %s were fetched", n, l.digest)
			}
		}
	}
	// ext4 has no blocks that only root may use, and one image if it is a store.
	ext4 := func(t *testing.T, p place, mib int64) (dir string, flags []string) {
		t.Helper()
		dir = newExt4(t, mib, "-m", "0", "-N", "512")
		flags = p.flags(dir)
		if p.store {
			fastpull(t, append(flags, seed)...).expect(t, 0)
		}
		reg.traffic(t)
		return dir, flags
	}

	for _, p := range places {
		t.Run(p.name, func(t *testing.T) {
			t.Run("TooSmall", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				occupy(t, dir, 11<<20)
				fails(t, dir, flags, ref, 1, nil).expect(t, 1, "at least 12.4 MB are needed", "11.5 MB are free at "+dir)
				noLayers(t, big)
			})
			t.Run("NoInodes", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				occupyInodes(t, dir, 1)
				fails(t, dir, flags, ref, 1, nil).expect(t, 1, dir)
				noLayers(t, big)
			})
			t.Run("TooManyFiles", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				occupyInodes(t, dir, 100)
				if !p.inodes {
					u.fastpull(t, append(flags, manyRef)...).expect(t, 0)
					if p.name == "Load" {
						d.must(t, "rmi", manyRef)
					}
					return
				}
				fails(t, dir, flags, manyRef, 1, nil).expect(t, 1, many.layers[0].digest.String(), "etc/file-", "inode")
			})
			// These take four times the room that they have in the tar. It is the
			// file system that says so, or what is still to be written.
			t.Run("TinyFiles", func(t *testing.T) {
				if !p.inodes {
					return
				}
				dir, flags := ext4(t, p, 32)
				occupy(t, dir, 900<<10)
				res := fails(t, dir, flags, manyRef, 1, nil).expect(t, 1, many.layers[0].digest.String())
				if !strings.Contains(res.stderr, "etc/file-") {
					res.expect(t, 1, "the disk would be full: at least", " are free at "+dir)
				}
			})
			t.Run("Bomb", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				fails(t, dir, flags, bombRef, 1, nil).expect(t, 1, bomb.layers[0].digest.String(), " are free")
			})
			// Somebody else takes the room: a good part, so that it shows before
			// the disk is full, or all at once.
			for name, leave := range map[string]int64{"Filling": 2 << 20, "Filled": 64 << 10} {
				t.Run(name, func(t *testing.T) {
					dir, flags := ext4(t, p, 48)
					g.arm(6 << 20)
					defer g.open()
					res := fails(t, dir, flags, gated, 1, func(r *running) {
						g.hold(t, &r.err)
						settle(t, dir)
						occupy(t, dir, leave)
						settle(t, dir) // for longer than fastpull does without a look
						g.open()
					})
					blame := func(l layer) bool { return strings.Contains(res.stderr, l.digest.String()) }
					if !slices.ContainsFunc(big.layers, blame) {
						t.Errorf("names no layer\n%s", res.stderr)
					}
					res.expect(t, 1, "would be full", "free at "+dir)
				})
			}
			t.Run("ReadOnly", func(t *testing.T) {
				dir, flags := ext4(t, p, 32)
				if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
					t.Fatal(err)
				}
				fails(t, dir, flags, ref, 1, nil).expect(t, 1, dir, "read-only")
				noLayers(t, big)
			})
			t.Run("JustEnough", func(t *testing.T) {
				dir, flags := ext4(t, p, 64)
				leave := int64(13 << 20)
				if p.name == "Output" {
					leave = 26 << 20 // the layers, and the archive beside them
				}
				occupy(t, dir, leave)
				u.fastpull(t, append(flags, ref)...).expect(t, 0)
				if p.name == "Load" {
					d.must(t, "rmi", ref)
				}
			})
		})
	}

	// There is room for the layers, but not for files of them beside the archive. None
	// is needed where they wait as the blobs that they came as; without those one of two
	// waits in a file until the other is written.
	t.Run("OutputBesideLayers", func(t *testing.T) {
		dir := newExt4(t, 48, "-m", "0")
		occupy(t, dir, 14<<20)
		out := filepath.Join(dir, "out.tar")
		fails(t, dir, []string{"--no-resume", "-o", out}, ref, 1, nil).expect(t, 1, "out.tar", "MB are needed")
		fastpull(t, "-o", out, ref).expect(t, 0)
	})

	for _, tc := range []struct {
		name  string
		make  func(t *testing.T) (dir string)
		lacks string
	}{
		{"NoTypes", func(t *testing.T) string { return newExt4(t, 16, "-O", "^filetype") }, "d_type"},
		{"NoXattrs", func(t *testing.T) string { return newMount(t, "ramfs", "") }, "trusted.overlay.opaque"},
		{"InAnOverlay", func(t *testing.T) string {
			base := newMount(t, "tmpfs", "size=64m")
			for _, name := range []string{"lower", "upper", "work"} {
				if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			return newMount(t, "overlay", fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", base))
		}, "whiteouts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tc.make(t)
			reg.traffic(t)
			fails(t, dir, []string{"--store", filepath.Join(dir, "store")}, ref, 1, nil).expect(t, 1, dir, "lacks", tc.lacks, "ftype=1")
			if n := reg.traffic(t).manifests(); n > 0 {
				t.Errorf("%d manifests were fetched before the place was looked at", n)
			}
			// A root file system needs none of it.
			fastpull(t, "--rootfs", filepath.Join(dir, "rootfs"), seed).expect(t, 0)
		})
	}
}
