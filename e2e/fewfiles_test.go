//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// fewFiles has the user's programs open no more than n files at a time, and begin with a
// soft limit below that.
func (u *user) fewFiles(t *testing.T, n int) *user {
	t.Helper()
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Fatal(err)
	}
	u.by = append(u.by, prlimit, fmt.Sprintf("--nofile=%d:%d", n-16, n))
	return u
}

// TestFewFiles pulls images of many layers, three at once, while the process may open few
// files: fewer layers and connections are at work at a time.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	d := startDockerd(t, dockerdOptions{})
	var refs []string
	for i := range 3 {
		var layers []layer
		for j := range 12 {
			layers = append(layers, noiseLayer(t, 600<<10, uint64(100*i+j)))
		}
		refs = append(refs, reg.push(t, fmt.Sprintf("img-%d:tag", i), makeImage(t, imageSpec{layers: layers, label: fmt.Sprint(i)})))
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
			{"Load", func(string) []string { return []string{"--load", refs[0]} }},
		} {
			if tc.name == "Load" && limit > 64 {
				continue // it takes an Engine long
			}
			t.Run(fmt.Sprintf("%d/%s", limit, tc.name), func(t *testing.T) {
				u := newUser(t)
				if tc.name == "Load" {
					u = d.user(t)
				}
				dir := filepath.Join(t.TempDir(), "to")
				u.fewFiles(t, limit).fastpull(t, append(eager, tc.args(dir)...)...).expect(t, 0, " layers at a time, not 24")
				if tc.name == "Load" {
					d.must(t, "rmi", refs[0])
				}
			})
		}
	}
	dir := filepath.Join(t.TempDir(), "store")
	newUser(t).fewFiles(t, 30).fastpull(t, "--store", dir, refs[0]).expect(t, 2, " files, and needs 40 at least", "hint: raise the limit")
	if _, err := os.Lstat(dir); err == nil {
		t.Errorf("%s was made", dir)
	}
}
