//go:build e2e

package kit

import (
	"archive/tar"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// LargeID is an owner beyond 31 bits, where a tar.Header has room for it.
const LargeID = min(3_000_000_000, math.MaxInt)

// BaseLayer is the user land: the tool under its names, and a few folders. It
// can be run with cat, ls and sleep. Each seed gives another layer.
func BaseLayer(t *testing.T, seed int) Layer {
	t.Helper()
	tool, err := os.ReadFile(Programs.tool)
	if err != nil {
		t.Fatal(err)
	}
	program := File("bin/tool", 0o755, string(tool))
	return MakeLayer(t, Gzipped,
		Dir("bin", 0o755), program,
		Symlink("bin/cat", "tool"), Symlink("bin/ls", "/bin/tool"), Hardlink("bin/sleep", program),
		Dir("etc", 0o755), File("etc/seed", 0o644, fmt.Sprint(seed)),
		Dir("tmp", 0o1777),
	)
}

// SmallLayer holds one file, by name and text.
func SmallLayer(t *testing.T, name, text string) Layer {
	t.Helper()
	return MakeLayer(t, Gzipped, File(name, 0o644, text))
}

// NoiseLayer holds size bytes that do not compress.
func NoiseLayer(t *testing.T, size int, seed uint64) Layer {
	t.Helper()
	return MakeLayer(t, Gzipped, Noise(fmt.Sprintf("noise-%d", seed), size, seed))
}

// CapNetRaw is the value of security.capability for cap_net_raw+ep.
const CapNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var (
	longName    = "long/" + strings.Repeat("n", 120)                                                                 // over what a plain header holds
	longPath    = "long/" + strings.Repeat("d", 90) + "/" + strings.Repeat("e", 90) + "/" + strings.Repeat("f", 200) // over ustar
	notUTF8     = "names/caf\xe9"
	OldTime     = time.Date(1999, 12, 31, 23, 59, 59, 1, time.UTC)
	BeforeEpoch = time.Date(1955, 11, 5, 6, 0, 0, 0, time.UTC)
	TrickyText  = "the top layer's word\n"
	TrickyFile  = "/etc/word"
)

// TrickyImage has what images have that is easily got wrong, but for the cases
// in which fastpull differs from dockerd on purpose.
func TrickyImage(t *testing.T, label string) Image {
	t.Helper()
	pair := File("pair-a", 0o640, "pair")
	su := File("kinds/su", 0o4755, "setuid")
	null := Device(tar.TypeChar, "kinds/null", 0o666, 1, 3)
	dangling := Symlink("kinds/dangling", "no/such").Owned(9, 9)
	ping := File("kinds/ping", 0o755, "ping").Xattr("security.capability", CapNetRaw)
	pingAgain := Hardlink("kinds/absolute-target", ping)
	pingAgain.Linkname = "/" + ping.Name
	deep := File(longPath, 0o644, "long path")

	below := MakeLayer(t, Gzipped,
		Dir("opt", 0o755), Dir("opt/old", 0o700).Owned(12, 34), File("opt/old/a", 0o600, "a"), File("opt/keep", 0o644, "keep"),
		Dir("srv", 0o755), Dir("srv/data", 0o755), File("srv/data/one", 0o644, "1"), Dir("srv/data/sub", 0o755), File("srv/data/sub/two", 0o644, "2"),
		File("gone", 0o644, "gone"), File("was-file", 0o644, "f"), Dir("was-dir", 0o755), File("was-dir/in", 0o644, "in"),
		Symlink("was-link", "opt"), pair, Hardlink("pair-b", pair),
	)
	change := MakeLayer(t, Gzipped,
		Whiteout("gone"), Whiteout("opt/old"),
		Dir("srv/data", 0o750).Owned(7, 7), Opaque("srv/data"), File("srv/data/new", 0o644, "new"),
		// A type for another, by the new entry alone or behind a whiteout.
		Dir("was-file", 0o755), File("was-file/in", 0o644, "now a folder"),
		File("was-dir", 0o644, "now a file"), Whiteout("was-link"), File("was-link", 0o644, "no link now"),
		// One name of a pair goes: the other's link count stays in its layer.
		Whiteout("pair-b"),
		Dir("opt", 0o711).At(OldTime),
	)
	kinds := MakeLayer(t, Members,
		Dir("kinds", 0o755),
		su, File("kinds/wall", 0o2755, "setgid").Owned(0, 5),
		File("kinds/owned-su", 0o6711, "setuid of another").Owned(1000, 1001), ping,
		File("kinds/noted", 0o444, "xattr").Xattr("user.note", "one\x00two").Xattr("user.other", ""), File("kinds/large-ids", 0o644, "").Owned(LargeID, 4_000_000),
		null, Device(tar.TypeBlock, "kinds/loop300", 0o660, 7, 300).Owned(0, 6), Device(tar.TypeFifo, "kinds/fifo", 0o622, 0, 0),
		Symlink("kinds/relative", "../opt/keep"), Symlink("kinds/absolute", "/opt/keep"), dangling, Symlink("kinds/long", strings.Repeat("../", 60)+"x"),
		Hardlink("kinds/su-again", su), Hardlink("kinds/null-again", null), Hardlink("kinds/dangling-again", dangling), pingAgain,
		Dir("kinds/empty", 0o1777), Dir("kinds/setgid", 0o2775).Owned(0, 50), File("kinds/unreadable", 0, "secret"),
	)
	times := MakeLayer(t, Gzipped,
		Dir("times", 0o755).At(OldTime), File("times/old", 0o644, "old").At(OldTime), File("times/before", 0o644, "1955").At(BeforeEpoch),
		File("times/epoch", 0o644, "").At(time.Unix(0, 0)), Symlink("times/link", "old").At(OldTime), File("implied/parents/of/this", 0o644, "deep"),
		Dir("long", 0o755), File(longName, 0o644, "long name"), deep, Symlink(longName+"-link", longPath), Hardlink(longPath[:len(longPath)-1]+"g", deep),
		Dir("names", 0o755), File(notUTF8, 0o644, "latin 1"), File("names/ sp\nace\t", 0o644, "blank"), File("names/☃", 0o644, "snowman"), File("names/...", 0o644, "dots"),
		File("./dotted/./name", 0o644, "dot"), Noise("big", 3<<20, 77), File("zeros", 0o644, strings.Repeat("\x00", 1<<20)),
	)
	empty := MakeLayer(t, Gzipped)
	top := MakeLayer(t, Gzipped, Dir("etc", 0o755), File(TrickyFile[1:], 0o644, TrickyText))
	return MakeImage(t, ImageSpec{
		// The empty layer stands in it twice, as it does in many real images.
		Layers: []Layer{BaseLayer(t, 0), below, change, empty, kinds, times, empty, top}, Label: label,
		Cmd: []string{"/bin/cat", TrickyFile},
	})
}

// WordImage prints a word, from a file in its top layer.
func WordImage(t *testing.T, word string, below ...Layer) Image {
	t.Helper()
	return MakeImage(t, ImageSpec{
		Layers: append(slices.Clone(below), SmallLayer(t, "etc/word", word+"\n")), Cmd: []string{"/bin/cat", "/etc/word"}, Label: word})
}

// KillImage is one whose layers take turns in coming to an end.
func KillImage(t *testing.T) Image {
	t.Helper()
	return MakeImage(t, ImageSpec{Layers: []Layer{
		BaseLayer(t, 0), NoiseLayer(t, 6<<20, 1), NoiseLayer(t, 3<<20, 2), SmallLayer(t, "word", "last")}})
}
