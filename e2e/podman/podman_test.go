//go:build e2e

// Package podman runs the program against Podman's stores.
package podman

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestPodman compares a store with that of a podman pull, record by record and file by
// file, and has Podman use it.
func TestPodman(t *testing.T) {
	t.Parallel()
	ship := kit.NewShipment(t)
	tricky := kit.TrickyImage(t, "")
	refs := append(slices.Clone(ship.Refs), ship.Reg.Push(t, "tricky:1", tricky))
	index, _ := ship.Reg.PushIndex(t, "multi:1", tricky)
	refs = append(refs, index)
	got, want := newStore(t), newStore(t)
	begun := time.Now()
	kit.Fastpull(t, append([]string{"--podman=" + got.root}, refs[:4]...)...).Expect(t, 0)
	kit.Fastpull(t, append(kit.ForThisMachine(), "--podman="+got.root, index)...).Expect(t, 0) // another name of the last one
	for _, ref := range refs {
		want.pull(t, ref)
	}
	// The library's interface for staged layers does not take these two.
	same(t, got, want, "overlay-layers/layers.json", "created", "compressed-size", "compression")
	same(t, got, want, "overlay-images/images.json")
	for id := range want.records(t, "overlay-layers/layers.json") {
		kit.ExpectSame(t, "layer "+id, kit.CompareTrees(t, got.diff(id), want.diff(id), kit.TreeOptions{
			MadeUp: begun, Xattr: func(name string) bool { return name != "user.other" }, // without a value: Podman leaves it out
		}))
	}
	// The library finds fault with odd tars, and with the times of directories that none names.
	made := regexp.MustCompile(`mtime:\w+￫\w+`)
	if got, want := made.ReplaceAllString(got.check(t), ""), made.ReplaceAllString(want.check(t), ""); got != want {
		t.Errorf("the library finds\n%s\nwant what it finds of Podman's own\n%s", got, want)
	}
	if got, want := got.podman(t, "images", "--digests", "--no-trunc"), want.podman(t, "images", "--digests", "--no-trunc"); sorted(got) != sorted(want) {
		t.Errorf("podman images:\n%s\nwant\n%s", got, want)
	}

	for _, im := range kit.Fastpull(t, slices.Concat([]string{"--podman=" + got.root, "--json"}, kit.ForThisMachine(), refs)...).Expect(t, 0).Summary(t).Images {
		if im.Status != "exists" || im.BytesFetched > 0 {
			t.Errorf("a second run: %+v", im)
		}
	}
	ship.Reg.Traffic(t)
	for i, ref := range ship.Refs {
		if got := got.runs(t, ref); got != kit.Words[i] {
			t.Errorf("podman run %s prints %q", ref, got)
		}
		got.pull(t, ref)
		saved(t, got, ref, ship.Images[i])
	}
	traffic := ship.Reg.Traffic(t)
	for _, im := range ship.Images {
		for _, l := range im.Layers {
			if gets, _ := traffic.Blob(l.Digest); gets > 0 {
				t.Errorf("podman pull fetches layer %s", l.Digest)
			}
		}
	}
	got.podman(t, "push", "-q", "--tls-verify=false", refs[3], ship.Reg.Addr+"/pushed:1")
	got.podman(t, "system", "df")
	got.podman(t, "rmi", "--all", "--force")
	for _, file := range []string{"overlay-layers/layers.json", "overlay-images/images.json"} {
		if left := got.records(t, file); len(left) > 0 {
			t.Errorf("podman rmi leaves %v", left)
		}
	}
	if left, _ := filepath.Glob(got.root + "/overlay/staging/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// same compares the records of two stores, but for fields to skip.
func same(t *testing.T, got, want store, file string, skip ...string) {
	t.Helper()
	g, w := got.records(t, file), want.records(t, file)
	for _, id := range slices.Sorted(maps.Keys(w)) {
		for _, field := range slices.Sorted(maps.Keys(w[id])) {
			if !slices.Contains(skip, field) && !reflect.DeepEqual(g[id][field], w[id][field]) {
				t.Errorf("%s %.12s: %s is\n%v, want\n%v", file, id, field, g[id][field], w[id][field])
			}
		}
		for field, value := range g[id] {
			if _, ok := w[id][field]; !ok {
				t.Errorf("%s %.12s: %s is %v, want none", file, id, field, value)
			}
		}
	}
	if len(g) != len(w) {
		t.Errorf("%s has %d records, want %d", file, len(g), len(w))
	}
}

func sorted(lines string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Split(lines, "\n"))), "\n")
}

// saved has Podman save an image: the layers have to be the very tars.
func saved(t *testing.T, s store, ref string, im kit.Image) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "saved")
	s.podman(t, "save", "-q", "--format", "docker-dir", "-o", dir, ref)
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Layers []struct{ Digest string }
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for i, l := range im.Layers {
		if i >= len(m.Layers) || m.Layers[i].Digest != l.DiffID.String() {
			t.Errorf("podman save %s: layers %v, want %s as layer %d", ref, m.Layers, l.DiffID, i)
		}
	}
}

// TestPodmanRefuses has stores that fastpull does not write.
func TestPodmanRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "vfs-images"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := kit.Fastpull(t, "--podman="+dir, "localhost:1/none:1")
	if r.Code == 0 || !strings.Contains(r.Stderr, "storage driver vfs") {
		t.Errorf("vfs: %+v", r)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Error(fmt.Sprint("left: ", left, err))
	}
}

// TestPodmanNothing has no image to store: no store is made.
func TestPodmanNothing(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	dir := t.TempDir()
	for _, args := range [][]string{{}, {"--dry-run"}} {
		kit.Fastpull(t, append(args, "--podman="+filepath.Join(dir, "above/root"), reg.Addr+"/none:1")...).Expect(t, 3)
	}
	if left := kit.Names(t, dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
