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
			{"Podman", func(dir string) []string { return append([]string{"--podman=" + dir}, refs...) }},
			{"Load", func(string) []string { return []string{"--load", refs[0]} }},
		} {
			if tc.name == "Load" && limit > 64 {
				continue // it takes an Engine long
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
	kit.NewUser(t).FewFiles(t, 30).Fastpull(t, "--store", dir, refs[0]).Expect(t, 2, " files, and needs 40 at least", "hint: raise the limit")
	if _, err := os.Lstat(dir); err == nil {
		t.Errorf("%s was made", dir)
	}
}

// TestFewFilesManyLayers pulls an image of more layers than the process may open files. Layers
// that wait for the others have no file open, but for those that a destination takes one after
// the other: there the error says what to do.
func TestFewFilesManyLayers(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	const layers = 120
	list := []kit.Layer{kit.BaseLayer(t, 0)}
	for i := range layers - 1 {
		list = append(list, kit.SmallLayer(t, fmt.Sprintf("f%d", i), "x\n"))
	}
	ref := reg.Push(t, "deep:1", kit.MakeImage(t, kit.ImageSpec{Layers: list}))
	c := kit.StartContainerd(t, kit.ContainerdOptions{})
	for _, tc := range []struct {
		name string
		u    *kit.User // nil for one of its own
		args func(dir string) []string
	}{
		{"Store", nil, func(dir string) []string { return []string{"--store", dir} }},
		{"Rootfs", nil, func(dir string) []string { return []string{"--rootfs", dir} }},
		{"Output", nil, func(dir string) []string { return []string{"-o", dir + ".tar"} }},
		{"Bundle", nil, func(dir string) []string { return []string{"bundle", "-o", dir + ".tar"} }},
		{"Kept", nil, func(dir string) []string { return []string{"bundle", "--layers=keep", "-o", dir + ".tar"} }},
		{"Podman", nil, func(dir string) []string { return []string{"--podman=" + dir} }},
		{"Containerd", c.User(t), func(string) []string { return []string{"--containerd"} }},
		{"ContainerdRoot", nil, func(dir string) []string { return []string{"--containerd-root", dir} }},
		{"DockerRoot", nil, func(dir string) []string { return []string{"--docker-root", dir} }},
		{"Load", kit.StartDockerd(t, kit.DockerdOptions{}).User(t), func(string) []string { return []string{"--load"} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := tc.u
			if u == nil {
				u = kit.NewUser(t)
			}
			dir := filepath.Join(t.TempDir(), "to")
			args := append(tc.args(dir), "--jobs=24", "--connections=64", ref)
			switch tc.name {
			case "Output", "Bundle", "Load":
				if res := u.FewFiles(t, 41).Fastpull(t, args...); res.Code != 0 { // it depends on which layers come first
					res.Expect(t, 1, "too many open files", "hint: each layer of an image that waits for its turn has a file open: raise the limit")
				}
				u.By = nil
				u.FewFiles(t, 256).Fastpull(t, args...).Expect(t, 0)
			default: // the least that fastpull works with: package os stays one below the hard limit
				u.FewFiles(t, 41).Fastpull(t, args...).Expect(t, 0)
			}
		})
	}
}
