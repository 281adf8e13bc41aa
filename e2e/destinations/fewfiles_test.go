//go:build e2e

package destinations

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestFewFiles pulls images of many layers, three at once, while the process may open few
// files: fewer layers and connections are at work at a time.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	d := kit.StartDockerd(t, kit.DockerdOptions{})
	var refs []string
	for i := range 3 {
		var layers []kit.Layer
		for j := range 12 {
			layers = append(layers, kit.NoiseLayer(t, 600<<10, uint64(100*i+j)))
		}
		refs = append(refs, reg.Push(t, fmt.Sprintf("img-%d:tag", i), kit.MakeImage(t, kit.ImageSpec{Layers: layers, Label: fmt.Sprint(i)})))
	}
	// As on a machine of many cores, and as many connections as there may be.
	eager := []string{"--jobs=24", "--connections=64", "--chunk-size=1MiB"}
	for _, limit := range []int{96, 64} {
		for _, tc := range []struct {
			name string
			args func(dir string) []string
		}{
			{"Store", func(dir string) []string { return append([]string{"--store", dir}, refs...) }},
			{"Rootfs", func(dir string) []string { return []string{"--rootfs", dir, refs[0]} }},
			{"Output", func(dir string) []string { return append([]string{"-o", dir + ".tar"}, refs...) }},
			{"Podman", func(dir string) []string { return []string{"--podman=" + dir, refs[0]} }},
			{"Load", func(string) []string { return []string{"--load", refs[0]} }},
		} {
			if tc.name == "Load" && limit > 64 || tc.name == "Podman" && limit < 96 {
				continue // it takes an Engine long, and Podman's store more files
			}
			t.Run(fmt.Sprintf("%d/%s", limit, tc.name), func(t *testing.T) {
				u := kit.NewUser(t)
				if tc.name == "Load" {
					u = d.User(t)
				}
				dir := filepath.Join(t.TempDir(), "to")
				u.FewFiles(t, limit).Fastpull(t, append(eager, tc.args(dir)...)...).Expect(t, 0, " layers at a time, not 24")
				switch tc.name {
				case "Load":
					d.Must(t, "rmi", refs[0])
				case "Store": // what the process lacks is no damage
					kit.NewUser(t).FewFiles(t, limit).Fastpull(t, "verify", "--jobs=24", "--store", dir).Expect(t, 0, "36 layers")
				}
			})
		}
	}
	dir := filepath.Join(t.TempDir(), "store")
	kit.NewUser(t).FewFiles(t, 64).Fastpull(t, "--podman="+dir, refs[0]).Expect(t, 1, "enough for 7 layers of Podman's store", "12 are to be stored", "hint: raise the limit")
	if left := kit.Names(t, filepath.Join(dir, "overlay/staging")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	kit.NewUser(t).FewFiles(t, 30).Fastpull(t, "--store", dir, refs[0]).Expect(t, 2, " files, and needs 40 at least", "hint: raise the limit")
	if _, err := os.Lstat(dir); err == nil {
		t.Errorf("%s was made", dir)
	}
}
