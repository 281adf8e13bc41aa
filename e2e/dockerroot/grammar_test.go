//go:build e2e

package dockerroot

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// grammar makes layers up, of everything that a tar can say, and with so few
// names that entries meet. Most entries are such as tools write; of what tools
// should not write there is a little, or dockerd would refuse every layer.
type grammar struct {
	rand    *rand.Rand
	format  tar.Format
	entries []kit.Entry
	taken   map[string]bool // clean names that have an entry
	files   []kit.Entry     // what a hardlink can go to
	links   []string        // names of symlinks
}

// randomLayer is a layer of a run, the same for the same numbers. The first are
// not random.
func randomLayer(t *testing.T, seed uint64, number int) kit.Layer {
	t.Helper()
	if number < len(rareLayers) {
		return kit.MakeLayer(t, kit.Gzipped, rareLayers[number]...)
	}
	g := &grammar{rand: rand.New(rand.NewPCG(seed, uint64(number))), format: tar.FormatPAX, taken: map[string]bool{}}
	if g.oneIn(4) {
		g.format = tar.FormatGNU
	}
	for range 3 + g.rand.IntN(14) {
		g.add()
	}
	if g.oneIn(8) {
		g.rand.Shuffle(len(g.entries), func(i, j int) { g.entries[i], g.entries[j] = g.entries[j], g.entries[i] })
	}
	return kit.MakeLayer(t, kit.Gzipped, g.entries...)
}

func (g *grammar) oneIn(n int) bool { return g.rand.IntN(n) == 0 }

func pick[T any](g *grammar, list ...T) T { return list[g.rand.IntN(len(list))] }

// add adds one entry.
func (g *grammar) add() {
	switch n := g.rand.IntN(100); {
	case n < 32:
		g.put(g.meta(kit.File(g.leafName(), g.mode(), strings.Repeat("x", pick(g, 0, 1, 511, 512, 513, 3000)))))
	case n < 50:
		e := kit.Dir(g.folderName(), g.mode())
		e.Name = strings.TrimSuffix(e.Name, "/") + pick(g, "/", "/", "")
		g.put(g.meta(e))
	case n < 62:
		e := kit.Symlink(g.leafName(), pick(g, "a", "b", "../a", "/a", "/a/d", "d", ".", "..", "../../../..", "/", "none", "/none/at/all", "s", "a/../b", "f", "./",
			strings.Repeat("long/", 60)))
		if g.oneIn(16) {
			e = e.Xattr("user.note", "on a symlink")
		}
		g.put(g.meta(e))
	case n < 71:
		g.hardlink()
	case n < 81:
		name := g.leafName()
		if g.oneIn(8) {
			name = g.folderName()
		}
		e := kit.Whiteout(name)
		if g.oneIn(6) {
			e = e.Owned(7, 8)
		}
		g.put(e)
	case n < 85:
		g.put(kit.Opaque(pick(g, g.folderName(), path.Dir(g.leafName()))))
	case n < 92:
		g.put(g.meta(kit.Device(pick(g, byte(tar.TypeChar), tar.TypeBlock, tar.TypeFifo), g.leafName(), g.mode(),
			int64(pick(g, 1, 5, 8, 259)), int64(pick(g, 0, 3, 300, 65537)))))
	case n < 94:
		g.put(g.meta(kit.Dir(".", g.mode())))
	case n < 95:
		g.odd()
	default: // through a symlink of this layer, to wherever it goes
		if len(g.links) > 0 {
			g.put(g.meta(kit.File(pick(g, g.links...)+"/"+pick(g, "f", "g", "d/h"), g.mode(), "through")))
		}
	}
}

// odd adds what no tool writes, or none any more.
func (g *grammar) odd() {
	switch g.rand.IntN(10) {
	case 0:
		g.put(kit.File("../"+g.leafName(), 0o644, "out"))
	case 1:
		g.put(kit.Device(tar.TypeChar, g.leafName(), g.mode(), 0, 0))
	case 2:
		g.put(kit.File(".wh."+pick(g, "", ".", ".."), 0, ""))
	case 3:
		g.put(kit.Dir(g.folderName(), 0o755).Xattr("trusted.overlay.opaque", "y"))
	case 4:
		plnk := kit.File(".wh..wh.plnk/1.2", 0o644, "aufs")
		g.put(plnk)
		g.put(kit.Hardlink(g.leafName(), plnk))
	case 5:
		g.put(pick(g, kit.Dir(".wh..wh.plnk", 0o700), kit.File(".wh..wh.aufs", 0o444, ""), kit.Dir(".wh..wh.orph", 0o700)))
	case 6:
		g.put(kit.File(g.leafName()+"/"+pick(g, "f", "g"), 0o644, "below something"))
	case 7:
		g.put(kit.File(strings.Repeat("n", 256), 0o644, "too long"))
	case 8:
		name := g.folderName()
		g.put(kit.Whiteout(name))
		g.put(kit.Dir(name, 0o755))
	default:
		if len(g.entries) > 0 {
			again := pick(g, g.entries...)
			g.entries = append(g.entries, kit.File(path.Clean(again.Name), 0o640, "again"))
		}
	}
}

// The names of folders, and those of all else. What a folder is called is now
// and then something else, and the other way round.
var (
	folderNames = []string{"a", "b", "d", "e", "dir-\xe9"}
	leafNames   = []string{"f", "g", "h", "s", "caf\u00e9", "x y"}
)

func (g *grammar) folderName() string { return g.name(folderNames, leafNames) }
func (g *grammar) leafName() string   { return g.name(leafNames, folderNames) }

// name is one that has no entry in this layer, spelled in some way.
func (g *grammar) name(usual, unusual []string) string {
	var parts []string
	for range g.rand.IntN(3) {
		parts = append(parts, pick(g, folderNames...))
	}
	if g.oneIn(60) {
		usual = unusual
	}
	base := pick(g, usual...)
	switch g.rand.IntN(60) {
	case 0:
		base = strings.Repeat("n", pick(g, 99, 100, 101, 155, 255))
	case 1:
		parts = append(parts, slices.Repeat([]string{strings.Repeat("p", 60)}, 5)...)
	}
	name := strings.Join(append(parts, base), "/")
	for i := 0; g.taken[name]; i++ {
		name = strings.Join(append(parts, fmt.Sprint("n", i)), "/")
	}
	switch g.rand.IntN(16) {
	case 0:
		return "/" + name
	case 1:
		return "./" + name
	case 2:
		return "e/.././" + name
	case 3:
		return strings.ReplaceAll(name, "/", "//")
	}
	return name
}

// put adds the entry in the format of the layer, unless its name is taken.
func (g *grammar) put(e kit.Entry) {
	clean := strings.TrimPrefix(path.Clean("/"+e.Name), "/")
	if g.taken[clean] {
		return
	}
	g.taken[clean] = true
	e.Format = g.format
	if g.format == tar.FormatGNU {
		e.PAXRecords = nil
		e.ModTime = e.ModTime.Truncate(time.Second)
	}
	g.entries = append(g.entries, e)
	switch e.Typeflag {
	case tar.TypeSymlink:
		g.links = append(g.links, clean)
	case tar.TypeDir:
	default:
		if !strings.HasPrefix(path.Base(clean), ".wh.") {
			g.files = append(g.files, e)
		}
	}
}

// hardlink adds another name of what the layer has, with the same header as
// tools write it, or of what it may not have.
func (g *grammar) hardlink() {
	if len(g.files) == 0 || g.oneIn(20) {
		if g.oneIn(3) { // nearly every one of them is refused
			g.put(kit.Hardlink(g.leafName(), kit.File(pick(g, "a", "none", "/b", "../f", "."), 0o644, "")))
		}
		return
	}
	e := kit.Hardlink(g.leafName(), pick(g, g.files...))
	if g.oneIn(6) {
		e.Linkname = "/" + e.Linkname
	}
	if g.oneIn(8) {
		e = g.meta(e)
		e.Mode = g.mode()
	}
	g.put(e)
}

func (g *grammar) mode() int64 {
	return pick[int64](g, 0o644, 0o644, 0o755, 0o755, 0, 0o600, 0o4755, 0o2755, 0o1777, 0o7777, 0o111)
}

// meta gives an entry an owner, a time and attributes.
func (g *grammar) meta(e kit.Entry) kit.Entry {
	if g.oneIn(3) {
		e = e.Owned(pick(g, 0, 1, 1000, 65534, kit.LargeID), pick(g, 0, 5, 1000, 4_000_000))
	}
	if g.oneIn(2) {
		e = e.At(kit.SampleTime.Add(-time.Duration(g.rand.Int64N(int64(50 * 365 * 24 * time.Hour)))))
	}
	if g.oneIn(40) {
		e = e.At(pick(g, time.Unix(0, 0), kit.BeforeEpoch, time.Unix(-1, 5)))
	}
	kept := slices.Contains([]byte{tar.TypeReg, tar.TypeDir}, e.Typeflag) // by the kernel
	if kept && g.oneIn(8) {
		e = e.Xattr("user."+pick(g, "a", "b"), pick(g, "1", "two\x00\n=3", strings.Repeat("v", 900)))
	}
	if e.Typeflag == tar.TypeReg && g.oneIn(16) {
		e = e.Xattr("security.capability", kit.CapNetRaw)
	}
	if kept && g.oneIn(16) {
		e = e.Xattr("trusted.note", "root's")
	}
	return e
}
