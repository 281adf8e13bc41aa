//go:build e2e

package dockerroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// The layers of a usual run.
const (
	usualSeed   = 1
	usualLayers = 100
)

// TestDifferential gives made-up layers to fastpull and to others, and compares
// what they make of them: each layer's files with dockerd's, and whole images
// with umoci's and with the kernel's overlay. Where they differ, in the files or
// in what they refuse, known_test.go has to say why.
//
// FASTPULL_LAYERS is the number of layers, FASTPULL_SEED another set of them.
func TestDifferential(t *testing.T) {
	t.Parallel()
	seed, count := uint64(number(t, "FASTPULL_SEED", usualSeed)), number(t, "FASTPULL_LAYERS", usualLayers)
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	disk := kit.NewMemoryDisk(t)
	r := &differential{
		t: t, reg: reg, seed: seed, tree: kit.TreeOptions{MadeUp: begun},
		store: filepath.Join(disk, "store"), disk: disk, used: map[string]int{},
		d: kit.StartDockerd(t, kit.DockerdOptions{Root: filepath.Join(disk, "docker")}),
	}
	const batch = 50 // images in one call of fastpull
	for first := 0; first < count; first += batch {
		r.layers(first, min(first+batch, count))
	}
	r.d.Stop()
	r.report()
}

// differential is one run.
type differential struct {
	t     *testing.T
	reg   *kit.Registry
	d     *kit.Dockerd
	disk  string
	store string
	seed  uint64
	tree  kit.TreeOptions

	compared int            // layers
	accepted int            // … that dockerd and fastpull both take
	agreed   int            // … and that both refuse
	images   int            // of layers that fastpull takes
	merged   int            // … that umoci takes too
	used     map[string]int // rows of the tables, and how often each was needed
}

func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// sample is one layer, and what became of it.
type sample struct {
	kit.Layer
	number  int
	image   kit.Image
	ref     string
	refused map[string]string // by whom, and what it said
}

func (s *sample) String() string { return fmt.Sprintf("layer %d", s.number) }

// layers makes the layers of those numbers and compares what dockerd and
// fastpull do with each, then what becomes of images of a few of them.
func (r *differential) layers(first, end int) {
	r.t.Helper()
	var batch []*sample
	refs := []string{"--store", r.store, "--keep-going", "--json"}
	for i := first; i < end; i++ {
		s := &sample{number: i, Layer: randomLayer(r.t, r.seed, i), refused: map[string]string{}}
		s.image = kit.MakeImage(r.t, kit.ImageSpec{Layers: []kit.Layer{s.Layer}, Label: fmt.Sprint(i)})
		s.ref = r.reg.Push(r.t, fmt.Sprintf("random:%d", i), s.image)
		if err := r.d.ImportLayer(r.t, s.Plain); err != nil {
			s.refused["dockerd"] = err.Error()
		}
		batch, refs = append(batch, s), append(refs, s.ref)
	}
	run := kit.Fastpull(r.t, refs...)
	sum := run.Summary(r.t)
	if len(sum.Images) != len(batch) {
		r.t.Fatalf("the summary has %d images of %d\n%s", len(sum.Images), len(batch), run.Stderr)
	}
	for i, got := range sum.Images {
		if got.Status == "failed" {
			batch[i].refused["fastpull"] = got.Error
		}
	}
	theirs, ours := cacheIDs(r.t, r.d.Root), cacheIDs(r.t, r.store)
	for _, s := range batch {
		r.compared++
		if len(s.refused) > 0 {
			r.explainRefusal(s.String(), s.refused, s.Layer)
			continue
		}
		r.accepted++
		chain := s.DiffID.Hex
		dockers := filepath.Join(r.d.Root, "overlay2", theirs[chain], "diff")
		f := factsOf(dockers, s.Layer)
		f.want = kit.ReadTree(r.t, dockers, r.tree)
		f.got = kit.ReadTree(r.t, filepath.Join(r.store, "overlay2", ours[chain], "diff"), r.tree)
		r.explainTree(s.String()+": not what dockerd makes of it", dockersTable, f, s.Layer)
	}
	batch = slices.DeleteFunc(batch, func(s *sample) bool { return s.refused["fastpull"] != "" })
	for group := range slices.Chunk(batch, 3) {
		r.merge(group)
	}
}

// merge makes an image of the layers, all of which fastpull takes, and compares
// the root that it unpacks with the one that the kernel puts together of its
// store, and with umoci's.
func (r *differential) merge(group []*sample) {
	r.t.Helper()
	var layers []kit.Layer
	for _, s := range group {
		layers = append(layers, s.Layer)
	}
	im := kit.MakeImage(r.t, kit.ImageSpec{Layers: layers, OCI: true})
	ref := r.reg.Push(r.t, fmt.Sprintf("merged:%d", r.images), im)
	what := fmt.Sprintf("image of %v", group)
	dir := filepath.Join(r.disk, fmt.Sprintf("merged-%d", r.images))
	rootfs, store, mount, umoci := dir+"/rootfs", dir+"/store", dir+"/mount", dir+"/umoci"
	for _, d := range []string{dir, mount} {
		if err := os.Mkdir(d, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	r.images++

	kit.Fastpull(r.t, "--rootfs", rootfs, ref).Expect(r.t, 0)
	kit.Fastpull(r.t, "--store", store, ref).Expect(r.t, 0)
	kit.Fastpull(r.t, "mount", ref, mount, "--store", store).Expect(r.t, 0)
	f := factsOf(mount, layers...)
	o := r.tree
	o.NoLinkCounts = true // an overlay counts names that it hides
	f.got = kit.ReadTree(r.t, rootfs, o)
	// A whiteout in a folder that no layer below has is listed by the kernel,
	// and not there. It is so with dockerd's layers too.
	o.Skip = func(path string) bool {
		_, err := os.Lstat(filepath.Join(mount, path))
		return errors.Is(err, fs.ErrNotExist)
	}
	f.want = kit.ReadTree(r.t, mount, o)
	o.Skip = nil
	r.explainTree(what+": --rootfs is not what is mounted", mountsTable, f, layers...)
	kit.Fastpull(r.t, "umount", mount).Expect(r.t, 0)

	if err := umociUnpack(r.t, im, umoci); err != nil {
		r.explainRefusal(what, map[string]string{"umoci": err.Error()}, layers...)
	} else {
		r.merged++
		f.want = kit.ReadTree(r.t, umoci, o)
		r.explainTree(what+": not what umoci makes of it", umocisTable, f, layers...)
	}
	if err := os.RemoveAll(dir); err != nil {
		r.t.Error(err)
	}
}

// cacheIDs gives the names of the layers' folders by their chain IDs.
func cacheIDs(t *testing.T, root string) map[string]string {
	t.Helper()
	db := filepath.Join(root, "image/overlay2/layerdb/sha256")
	ids := map[string]string{}
	for _, chain := range kit.Names(t, db) {
		id, err := os.ReadFile(filepath.Join(db, chain, "cache-id"))
		if err != nil {
			t.Fatal(err)
		}
		ids[chain] = string(id)
	}
	return ids
}

// explainRefusal fails the test if one refuses what the other takes, and no row
// says why.
func (r *differential) explainRefusal(what string, refused map[string]string, layers ...kit.Layer) {
	r.t.Helper()
	if len(refused) > 1 {
		r.agreed++
		return
	}
	for who, says := range refused {
		for _, row := range refusals {
			if row.who == who && row.says.MatchString(says) {
				r.used[row.name]++
				return
			}
		}
		r.t.Errorf("seed %d, %s: only %s refuses it: %s\n%v", r.seed, what, who, says, layers)
	}
}

// explainTree fails the test with the differences that no row of the table
// explains.
func (r *differential) explainTree(what string, table []row, f *facts, layers ...kit.Layer) {
	r.t.Helper()
	var unknown []string
	for _, d := range kit.Differences(f.got, f.want) {
		i := slices.IndexFunc(table, func(row row) bool { return row.is(f, d) })
		if i < 0 {
			unknown = append(unknown, d.String())
			continue
		}
		r.used[table[i].name]++
	}
	if len(unknown) > 0 {
		r.t.Errorf("seed %d, %s:\n\t%s\n%v", r.seed, what, strings.Join(unknown, "\n\t"), layers)
	}
}

// report says what was compared, and fails the test if a row explains nothing.
func (r *differential) report() {
	r.t.Helper()
	r.t.Logf("seed %d: %d layers: dockerd and fastpull both take %d and both refuse %d; %d images: umoci takes %d",
		r.seed, r.compared, r.accepted, r.agreed, r.images, r.merged)
	row := func(what, name, why string) {
		r.t.Logf("%6d %s: %s: %s", r.used[name], what, name, why)
		// Another set of layers may be without one of the rarer cases.
		if r.used[name] == 0 && r.seed == usualSeed && r.compared >= usualLayers {
			r.t.Errorf("no layer needs the row %q: it is out of date", name)
		}
	}
	for _, known := range dockersTable {
		row("differences from dockerd", known.name, known.why)
	}
	for _, known := range mountsTable {
		row("differences from a mount", known.name, known.why)
	}
	for _, known := range umocisTable {
		row("differences from umoci", known.name, known.why)
	}
	for _, known := range refusals {
		row("refused by "+known.who+" alone", known.name, known.why)
	}
}
