//go:build e2e

package dockerroot

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// realSize is what a tree from this machine may have: of a larger one, the
// folders that fit in, in the order of their names.
const realSize = 24 << 20

// TestRealTrees takes trees that nobody made for a test, writes each into a
// layer with GNU tar, and lets three unpack it: fastpull into a store and into
// a folder, dockerd into its own root, and tar again. All four trees are equal
// in everything, and dockerd's records of the layer equal the store's.
func TestRealTrees(t *testing.T) {
	t.Parallel() // it takes the longest of all
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	entries := number(t, "FASTPULL_ENTRIES", usualEntries)
	for _, tc := range []struct {
		name    string
		archive func(t *testing.T, dir string) string // makes a tar, in dir if it has to be made
		atLeast int                                   // files in it, that the test cannot pass on an empty one
	}{
		{"debian", func(t *testing.T, _ string) string { return kit.DebianTar(t) }, 5_000},
		{"go", func(t *testing.T, dir string) string {
			root := goRoot(t)
			return makeTar(t, dir, root, fitting(t, root), "--format=gnu")
		}, 1_000},
		{"share", func(t *testing.T, dir string) string {
			return makeTar(t, dir, "/usr/share", fitting(t, "/usr/share"), "--format=gnu", "--numeric-owner")
		}, 1_000},
		{"python", func(t *testing.T, dir string) string {
			root := filepath.Join(dir, "grown")
			growPython(t, root, entries)
			return makeTar(t, dir, root, []string{"."}, paxWithXattrs...)
		}, entries},
	} {
		t.Run(tc.name, func(t *testing.T) {
			disk := kit.NewMemoryDisk(t)
			archive := tc.archive(t, disk)
			plain, err := os.ReadFile(archive)
			if err != nil {
				t.Fatal(err)
			}
			l := kit.LayerOf(kit.Gzipped, plain, kit.Pack(t, kit.Gzipped, plain))
			ref := reg.Push(t, "real/"+tc.name+":1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{l}}))

			store, rootfs := filepath.Join(disk, "store"), filepath.Join(disk, "rootfs")
			d := kit.StartDockerd(t, kit.DockerdOptions{Root: filepath.Join(disk, "docker")})
			d.Must(t, "pull", ref)
			d.Stop()
			kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
			kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "all as it should be")
			kit.Fastpull(t, "--rootfs", rootfs, ref).Expect(t, 0)

			dockers, ours := kit.ReadDataRoot(t, d.Root), kit.ReadDataRoot(t, store)
			kit.ExpectSame(t, "the store's records are not dockerd's", kit.CompareNodes(ours.Nodes, dockers.Nodes))
			chain := l.DiffID.Hex // of the only layer
			want := readUnder(t, untar(t, archive, filepath.Join(disk, "tar")))
			if len(want) < tc.atLeast {
				t.Fatalf("tar unpacked %d files, which is less than %d", len(want), tc.atLeast)
			}
			t.Logf("%d files, %d MiB in a tar", len(want), len(plain)>>20)
			for _, got := range []struct{ who, dir string }{
				{"dockerd", dockers.Diff(chain)}, {"--store", ours.Diff(chain)}, {"--rootfs", rootfs},
			} {
				kit.ExpectSame(t, "what "+got.who+" unpacked is not what tar did", kit.CompareNodes(readUnder(t, got.dir), want))
			}
			kit.ExpectClean(t, store)
		})
	}
}

// readUnder reads all below root. The root itself belongs to the store, for
// dockerd as for fastpull, and only tar gives it what the layer says.
func readUnder(t *testing.T, root string) map[string]kit.Node {
	t.Helper()
	tree := kit.ReadTree(t, root, kit.TreeOptions{})
	delete(tree, ".")
	return tree
}

var paxWithXattrs = []string{"--format=posix", "--xattrs", "--xattrs-include=*"}

// makeTar writes what is called names in root into a tar in dir.
func makeTar(t *testing.T, dir, root string, names []string, flags ...string) (archive string) {
	t.Helper()
	archive = filepath.Join(dir, "layer.tar")
	runTar(t, append(append([]string{"-C", root, "-cf", archive}, flags...), names...)...)
	return archive
}

// untar unpacks the archive into a new folder, with everything that is in it.
func untar(t *testing.T, archive, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	runTar(t, "-C", dir, "-xpf", archive, "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*")
	return dir
}

// runTar runs GNU tar. Its exit code 1 says that a file changed while tar read
// it, which happens on a machine that lives; the archive is sound all the same.
func runTar(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "tar", args...)
	if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("tar %q: %v\n%s", args, err, out)
	}
}

// goRoot is where the Go toolchain is that runs this test.
func goRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatalf("go env GOROOT: %v", err)
	}
	return filepath.Clean(string(out[:len(out)-1]))
}

// fitting picks the entries of dir, by name, that together have no more than
// realSize bytes.
func fitting(t *testing.T, dir string) []string {
	t.Helper()
	var fit, left []string
	space := int64(realSize)
	for _, name := range kit.Names(t, dir) {
		if size := sizeBelow(t, filepath.Join(dir, name)); size <= space {
			fit, space = append(fit, name), space-size
		} else {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		t.Logf("%s: left out %q, to have at most %d MiB", dir, left, realSize>>20)
	}
	return fit
}

// sizeBelow is about what dir needs in a tar. What goes meanwhile does not count.
func sizeBelow(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		const header = 512
		size += header
		if info.Mode().IsRegular() {
			size += (info.Size() + header - 1) / header * header
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return size
}
