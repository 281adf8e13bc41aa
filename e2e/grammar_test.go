//go:build e2e

package e2e

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// grammar makes layers up, of everything that a tar can say, and with so few
// names that entries meet. Most entries are such as tools write; of what tools
// should not write there is a little, or dockerd would refuse every layer.
type grammar struct {
	rand    *rand.Rand
	format  tar.Format
	entries []entry
	taken   map[string]bool // clean names that have an entry
	files   []entry         // what a hardlink can go to
	links   []string        // names of symlinks
}

// randomLayer is a layer of a run, the same for the same numbers. The first are
// not random.
func randomLayer(t *testing.T, seed uint64, number int) layer {
	t.Helper()
	if number < len(rareLayers) {
		return makeLayer(t, gzipped, rareLayers[number]...)
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
	return makeLayer(t, gzipped, g.entries...)
}

func (g *grammar) oneIn(n int) bool { return g.rand.IntN(n) == 0 }

func pick[T any](g *grammar, list ...T) T { return list[g.rand.IntN(len(list))] }

// add adds one entry.
func (g *grammar) add() {
	switch n := g.rand.IntN(100); {
	case n < 32:
		g.put(g.meta(file(g.leafName(), g.mode(), strings.Repeat("x", pick(g, 0, 1, 511, 512, 513, 3000)))))
	case n < 50:
		e := dir(g.folderName(), g.mode())
		e.Name = strings.TrimSuffix(e.Name, "/") + pick(g, "/", "/", "")
		g.put(g.meta(e))
	case n < 62:
		e := symlink(g.leafName(), pick(g, "a", "b", "../a", "/a", "/a/d", "d", ".", "..", "../../../..", "/", "none", "/none/at/all", "s", "a/../b", "f", "./",
			strings.Repeat("long/", 60)))
		if g.oneIn(16) {
			e = e.xattr("user.note", "on a symlink")
		}
		g.put(g.meta(e))
	case n < 71:
		g.hardlink()
	case n < 81:
		name := g.leafName()
		if g.oneIn(8) {
			name = g.folderName()
		}
		e := whiteout(name)
		if g.oneIn(6) {
			e = e.owned(7, 8)
		}
		g.put(e)
	case n < 85:
		g.put(opaque(pick(g, g.folderName(), path.Dir(g.leafName()))))
	case n < 92:
		g.put(g.meta(device(pick(g, byte(tar.TypeChar), tar.TypeBlock, tar.TypeFifo), g.leafName(), g.mode(),
			int64(pick(g, 1, 5, 8, 259)), int64(pick(g, 0, 3, 300, 65537)))))
	case n < 94:
		g.put(g.meta(dir(".", g.mode())))
	case n < 95:
		g.odd()
	default: // through a symlink of this layer, to wherever it goes
		if len(g.links) > 0 {
			g.put(g.meta(file(pick(g, g.links...)+"/"+pick(g, "f", "g", "d/h"), g.mode(), "through")))
		}
	}
}

// odd adds what no tool writes, or none any more.
func (g *grammar) odd() {
	switch g.rand.IntN(10) {
	case 0:
		g.put(file("../"+g.leafName(), 0o644, "out"))
	case 1:
		g.put(device(tar.TypeChar, g.leafName(), g.mode(), 0, 0))
	case 2:
		g.put(file(".wh."+pick(g, "", ".", ".."), 0, ""))
	case 3:
		g.put(dir(g.folderName(), 0o755).xattr("trusted.overlay.opaque", "y"))
	case 4:
		plnk := file(".wh..wh.plnk/1.2", 0o644, "aufs")
		g.put(plnk)
		g.put(hardlink(g.leafName(), plnk))
	case 5:
		g.put(pick(g, dir(".wh..wh.plnk", 0o700), file(".wh..wh.aufs", 0o444, ""), dir(".wh..wh.orph", 0o700)))
	case 6:
		g.put(file(g.leafName()+"/"+pick(g, "f", "g"), 0o644, "below something"))
	case 7:
		g.put(file(strings.Repeat("n", 256), 0o644, "too long"))
	case 8:
		name := g.folderName()
		g.put(whiteout(name))
		g.put(dir(name, 0o755))
	default:
		if len(g.entries) > 0 {
			again := pick(g, g.entries...)
			g.entries = append(g.entries, file(path.Clean(again.Name), 0o640, "again"))
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
func (g *grammar) put(e entry) {
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
			g.put(hardlink(g.leafName(), file(pick(g, "a", "none", "/b", "../f", "."), 0o644, "")))
		}
		return
	}
	e := hardlink(g.leafName(), pick(g, g.files...))
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
func (g *grammar) meta(e entry) entry {
	if g.oneIn(3) {
		e = e.owned(pick(g, 0, 1, 1000, 65534, largeID), pick(g, 0, 5, 1000, 4_000_000))
	}
	if g.oneIn(2) {
		e = e.at(sampleTime.Add(-time.Duration(g.rand.Int64N(int64(50 * 365 * 24 * time.Hour)))))
	}
	if g.oneIn(40) {
		e = e.at(pick(g, time.Unix(0, 0), beforeEpoch, time.Unix(-1, 5)))
	}
	kept := slices.Contains([]byte{tar.TypeReg, tar.TypeDir}, e.Typeflag) // by the kernel
	if kept && g.oneIn(8) {
		e = e.xattr("user."+pick(g, "a", "b"), pick(g, "1", "two\x00\n=3", strings.Repeat("v", 900)))
	}
	if e.Typeflag == tar.TypeReg && g.oneIn(16) {
		e = e.xattr("security.capability", capNetRaw)
	}
	if kept && g.oneIn(16) {
		e = e.xattr("trusted.note", "root's")
	}
	return e
}
