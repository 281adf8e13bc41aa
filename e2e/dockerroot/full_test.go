//go:build e2e

package dockerroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestFullDisk removes from a store on a disk where nothing can be made: no block is free,
// or no inode. On one that is read-only, it is said that it is.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	// So many layers that one block of a directory does not hold all their names.
	shared := kit.SmallLayer(t, "etc/shared", "shared")
	var layers []kit.Layer
	for i := range 90 {
		layers = append(layers, kit.SmallLayer(t, fmt.Sprintf("etc/layer-%02d", i), "x"))
	}
	many := reg.Push(t, "many:1", kit.MakeImage(t, kit.ImageSpec{Layers: append([]kit.Layer{shared}, layers...)}))
	alone := reg.Push(t, "alone:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{shared}, Label: "alone"}))
	one := reg.Push(t, "one:1", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 1<<20, 31)}}))
	for name, fill := range map[string]func(t *testing.T, dir string){
		"NoBlocks": func(t *testing.T, dir string) {
			kit.Occupy(t, dir, 256<<10) // fallocate needs some blocks for itself
			for i := 0; os.WriteFile(filepath.Join(dir, fmt.Sprint("small-", i)), []byte("x"), 0o600) == nil; i++ {
			}
		},
		"NoInodes": func(t *testing.T, dir string) { kit.OccupyInodes(t, dir, 0) },
	} {
		mounted := func(t *testing.T) (dir, store string) {
			dir = kit.NewExt4(t, 48, "-m", "0", "-N", "2048")
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
			kit.Fastpull(t, "--store", store, many, alone).Expect(t, 0)
			full(t, dir)
			kit.Fastpull(t, "rm", "--store", store, many).Expect(t, 0, "untagged "+many, "deleted sha256:", "90 layers removed")
			kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "1 image, 1 layer")
			expectNothingLoose(t, store)
			kit.ExpectClean(t, store)
		})
		t.Run(name+"/RemoveAll", func(t *testing.T) {
			dir, store := mounted(t)
			kit.Fastpull(t, "--store", store, one).Expect(t, 0)
			full(t, dir)
			kit.Fastpull(t, "rm", "--store", store, one).Expect(t, 0, "untagged "+one, "deleted sha256:", "1 layer removed")
			expectNothingLoose(t, store)
			kit.ExpectClean(t, store)
		})
		t.Run(name+"/Prune", func(t *testing.T) {
			dir, store := mounted(t)
			kit.Fastpull(t, "--store", store, one).Expect(t, 0)
			for _, name := range []string{"imagedb/content/sha256", "repositories.json"} {
				if err := os.RemoveAll(filepath.Join(store, "image/overlay2", name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(store, "image/overlay2/imagedb/content/sha256"), 0o700); err != nil {
				t.Fatal(err)
			}
			full(t, dir)
			kit.Fastpull(t, "prune", "--store", store).Expect(t, 0, "1 layer, ")
			expectNothingLoose(t, store)
			kit.ExpectClean(t, store)
		})
		t.Run(name+"/PruneStaged", func(t *testing.T) {
			dir, store := mounted(t)
			kit.Fastpull(t, "--store", store, one).Expect(t, 0)
			kit.Fastpull(t, "--store", store, "--stage", alone).Expect(t, 0)
			full(t, dir)
			kit.Fastpull(t, "prune", "--store", store, "--staged").Expect(t, 0, "1 staged image")
			kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "1 image, 1 layer")
			if left := kit.Names(t, filepath.Join(store, "fastpull/staged")); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			kit.ExpectClean(t, store)
		})
	}
	t.Run("ReadOnly", func(t *testing.T) {
		dir := kit.NewExt4(t, 48, "-m", "0")
		store := filepath.Join(dir, "store")
		kit.Fastpull(t, "--store", store, alone).Expect(t, 0)
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		kit.Fastpull(t, "rm", "--store", store, alone).Expect(t, 1, store, "read-only", "hint:")
		kit.Fastpull(t, "prune", "--store", store).Expect(t, 1, store, "read-only", "hint:")
		kit.Fastpull(t, "verify", "--store", store).Expect(t, 0, "1 image, 1 layer")
	})
}
