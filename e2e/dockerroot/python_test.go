//go:build e2e

package dockerroot

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// usualEntries is how many files, folders and links growPython makes if
// FASTPULL_ENTRIES says nothing else.
const usualEntries = 12_000

// garden grows a tree that looks like many installed Python packages: mostly
// small files, many of them empty, and a folder for every few.
type garden struct {
	t    *testing.T
	root string
	rand *rand.Rand
	left int      // entries to make
	dirs []string // their times are set last
}

// growPython makes the same tree every time.
func growPython(t *testing.T, root string, entries int) {
	t.Helper()
	g := &garden{t: t, root: root, rand: rand.New(rand.NewPCG(3, 12)), left: entries}
	g.must(os.Mkdir(root, 0o755))
	g.dir("usr")
	g.dir("usr/bin")
	g.dir("usr/lib")
	g.dir("usr/lib/site-packages")
	g.file("usr/bin/python3.12", 70<<10)
	g.must(os.Chmod(filepath.Join(root, "usr/bin/python3.12"), 0o4755))
	g.must(unix.Lsetxattr(filepath.Join(root, "usr/bin/python3.12"), "security.capability", []byte(kit.CapNetRaw), 0))
	g.symlink("usr/bin/python3", "python3.12")
	g.symlink("usr/bin/python", "/usr/bin/python3")
	for i := 0; g.left > 0; i++ {
		g.distribution("usr/lib/site-packages", i)
	}
	for i := len(g.dirs) - 1; i >= 0; i-- {
		g.stamp(g.dirs[i])
	}
}

// wordy are names that some tool or other once got wrong.
var wordy = []string{
	"données", "donne\u0301es", "数据", "Ω", "latin1-\xe9", "emoji-🐍", "two words", " leading", "trailing.", "tab\there",
	"new\nline", "back\\slash", `"quoted"`, "-rf", "*", "con:", "..data", ".hidden", "#autosave#", "%2e%2e", "wh.not", "=", "pax=1",
}

// distribution is a package with its metadata, a shared library and tests.
func (g *garden) distribution(dir string, number int) {
	name := fmt.Sprintf("pkg_%04d", number)
	meta := filepath.Join(dir, name+"-1.0.dist-info")
	g.dir(meta)
	for _, f := range []string{"METADATA", "RECORD", "WHEEL", "entry_points.txt"} {
		g.file(filepath.Join(meta, f), g.rand.IntN(4<<10))
	}
	g.file(filepath.Join(meta, "INSTALLER"), 4)
	top := filepath.Join(dir, name)
	g.modules(top, 0)
	g.file(filepath.Join(top, "_speed.so.1.0"), g.rand.IntN(16<<10))
	g.symlink(filepath.Join(top, "_speed.so.1"), "_speed.so.1.0")
	g.symlink(filepath.Join(top, "_speed.so"), "/"+top+"/_speed.so.1")
	g.symlink(filepath.Join(top, "missing"), "../nowhere/"+name)

	data := filepath.Join(top, "tests data")
	g.dir(data)
	g.file(filepath.Join(data, wordy[number%len(wordy)]), 10)
	g.file(filepath.Join(data, fmt.Sprintf("%0255d", number)), 1)
	// Longer than ustar holds, and than one PAX or GNU block.
	for range number % 8 {
		data = filepath.Join(data, strings.Repeat("nested-", 14))
		g.dir(data)
	}
	g.file(filepath.Join(data, "leaf.json"), 512) // a block of a tar, exactly
}

// modules is one folder of modules, and those in it.
func (g *garden) modules(dir string, depth int) {
	g.dir(dir)
	cache := filepath.Join(dir, "__pycache__")
	g.dir(cache)
	g.file(filepath.Join(dir, "__init__.py"), 0)
	for i := range 3 + g.rand.IntN(8) {
		module := fmt.Sprintf("mod_%d", i)
		g.file(filepath.Join(dir, module+".py"), g.rand.IntN(2<<10))
		compiled := filepath.Join(cache, module+".cpython-312.pyc")
		g.file(compiled, g.rand.IntN(2<<10))
		// Where optimizing changes nothing, distributions keep the file once.
		if g.rand.IntN(4) == 0 {
			g.hardlink(filepath.Join(cache, module+".cpython-312.opt-1.pyc"), compiled)
			g.hardlink(filepath.Join(cache, module+".cpython-312.opt-2.pyc"), compiled)
		}
	}
	for i := range g.rand.IntN(4 - depth) {
		g.modules(filepath.Join(dir, fmt.Sprintf("sub_%d", i)), depth+1)
	}
}

// take counts an entry, and says whether there is still one to be made.
func (g *garden) take() bool {
	g.left--
	return g.left >= 0
}

func (g *garden) dir(name string) {
	if g.take() {
		g.must(os.Mkdir(filepath.Join(g.root, name), 0o755))
		g.dirs = append(g.dirs, name)
	}
}

func (g *garden) file(name string, size int) {
	if !g.take() {
		return
	}
	path := filepath.Join(g.root, name)
	text := strings.Repeat(name+"\n", size/(len(name)+1)+1)[:size]
	mode := fs.FileMode(0o644)
	if g.rand.IntN(50) == 0 {
		mode = 0o4750
	}
	g.must(os.WriteFile(path, []byte(text), 0o600))
	if g.rand.IntN(20) == 0 {
		g.must(os.Lchown(path, 1000+g.rand.IntN(3), kit.LargeID))
	}
	g.must(unix.Chmod(path, uint32(mode)))
	if g.rand.IntN(50) == 0 {
		g.must(unix.Lsetxattr(path, "user.checksum", fmt.Appendf(nil, "crc=%d\x00\n", g.rand.Uint32()), 0))
	}
	g.stamp(name)
}

func (g *garden) symlink(name, target string) {
	if g.take() {
		g.must(os.Symlink(target, filepath.Join(g.root, name)))
		g.stamp(name)
	}
}

func (g *garden) hardlink(name, target string) {
	if g.take() {
		g.must(os.Link(filepath.Join(g.root, target), filepath.Join(g.root, name)))
	}
}

// stamp gives a file a time of its own, with nanoseconds.
func (g *garden) stamp(name string) {
	when := kit.SampleTime.Add(-time.Duration(g.rand.Int64N(int64(20 * 365 * 24 * time.Hour))))
	ts := unix.NsecToTimespec(when.UnixNano())
	g.must(unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(g.root, name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
}

func (g *garden) must(err error) {
	if err != nil {
		g.t.Helper()
		g.t.Fatal(err)
	}
}
