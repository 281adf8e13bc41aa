//go:build e2e

package e2e

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

// largeID is an owner beyond 31 bits, where a tar.Header has room for it.
const largeID = min(3_000_000_000, math.MaxInt)

// baseLayer is the user land: the tool under its names, and a few folders. It
// can be run with cat, ls and sleep. Each seed gives another layer.
func baseLayer(t *testing.T, seed int) layer {
	t.Helper()
	tool, err := os.ReadFile(programs.tool)
	if err != nil {
		t.Fatal(err)
	}
	program := file("bin/tool", 0o755, string(tool))
	return makeLayer(t, gzipped,
		dir("bin", 0o755), program,
		symlink("bin/cat", "tool"), symlink("bin/ls", "/bin/tool"), hardlink("bin/sleep", program),
		dir("etc", 0o755), file("etc/seed", 0o644, fmt.Sprint(seed)),
		dir("tmp", 0o1777),
	)
}

// smallLayer holds one file, by name and text.
func smallLayer(t *testing.T, name, text string) layer {
	t.Helper()
	return makeLayer(t, gzipped, file(name, 0o644, text))
}

// noiseLayer holds size bytes that do not compress.
func noiseLayer(t *testing.T, size int, seed uint64) layer {
	t.Helper()
	return makeLayer(t, gzipped, noise(fmt.Sprintf("noise-%d", seed), size, seed))
}

// capNetRaw is the value of security.capability for cap_net_raw+ep.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

var (
	longName    = "long/" + strings.Repeat("n", 120)                                                                 // over what a plain header holds
	longPath    = "long/" + strings.Repeat("d", 90) + "/" + strings.Repeat("e", 90) + "/" + strings.Repeat("f", 200) // over ustar
	notUTF8     = "names/caf\xe9"
	oldTime     = time.Date(1999, 12, 31, 23, 59, 59, 1, time.UTC)
	beforeEpoch = time.Date(1955, 11, 5, 6, 0, 0, 0, time.UTC)
	trickyText  = "the top layer's word\n"
	trickyFile  = "/etc/word"
)

// trickyImage has what images have that is easily got wrong, but for the cases
// in which fastpull differs from dockerd on purpose.
func trickyImage(t *testing.T, label string) image {
	t.Helper()
	pair := file("pair-a", 0o640, "pair")
	su := file("kinds/su", 0o4755, "setuid")
	null := device(tar.TypeChar, "kinds/null", 0o666, 1, 3)
	dangling := symlink("kinds/dangling", "no/such").owned(9, 9)
	ping := file("kinds/ping", 0o755, "ping").xattr("security.capability", capNetRaw)
	pingAgain := hardlink("kinds/absolute-target", ping)
	pingAgain.Linkname = "/" + ping.Name
	deep := file(longPath, 0o644, "long path")

	below := makeLayer(t, gzipped,
		dir("opt", 0o755), dir("opt/old", 0o700).owned(12, 34), file("opt/old/a", 0o600, "a"), file("opt/keep", 0o644, "keep"),
		dir("srv", 0o755), dir("srv/data", 0o755), file("srv/data/one", 0o644, "1"), dir("srv/data/sub", 0o755), file("srv/data/sub/two", 0o644, "2"),
		file("gone", 0o644, "gone"), file("was-file", 0o644, "f"), dir("was-dir", 0o755), file("was-dir/in", 0o644, "in"),
		symlink("was-link", "opt"), pair, hardlink("pair-b", pair),
	)
	change := makeLayer(t, gzipped,
		whiteout("gone"), whiteout("opt/old"),
		dir("srv/data", 0o750).owned(7, 7), opaque("srv/data"), file("srv/data/new", 0o644, "new"),
		// A type for another, by the new entry alone or behind a whiteout.
		dir("was-file", 0o755), file("was-file/in", 0o644, "now a folder"),
		file("was-dir", 0o644, "now a file"), whiteout("was-link"), file("was-link", 0o644, "no link now"),
		// One name of a pair goes: the other's link count stays in its layer.
		whiteout("pair-b"),
		dir("opt", 0o711).at(oldTime),
	)
	kinds := makeLayer(t, members,
		dir("kinds", 0o755),
		su, file("kinds/wall", 0o2755, "setgid").owned(0, 5),
		file("kinds/owned-su", 0o6711, "setuid of another").owned(1000, 1001), ping,
		file("kinds/noted", 0o444, "xattr").xattr("user.note", "one\x00two").xattr("user.other", ""), file("kinds/large-ids", 0o644, "").owned(largeID, 4_000_000),
		null, device(tar.TypeBlock, "kinds/loop300", 0o660, 7, 300).owned(0, 6), device(tar.TypeFifo, "kinds/fifo", 0o622, 0, 0),
		symlink("kinds/relative", "../opt/keep"), symlink("kinds/absolute", "/opt/keep"), dangling, symlink("kinds/long", strings.Repeat("../", 60)+"x"),
		hardlink("kinds/su-again", su), hardlink("kinds/null-again", null), hardlink("kinds/dangling-again", dangling), pingAgain,
		dir("kinds/empty", 0o1777), dir("kinds/setgid", 0o2775).owned(0, 50), file("kinds/unreadable", 0, "secret"),
	)
	times := makeLayer(t, gzipped,
		dir("times", 0o755).at(oldTime), file("times/old", 0o644, "old").at(oldTime), file("times/before", 0o644, "1955").at(beforeEpoch),
		file("times/epoch", 0o644, "").at(time.Unix(0, 0)), symlink("times/link", "old").at(oldTime), file("implied/parents/of/this", 0o644, "deep"),
		dir("long", 0o755), file(longName, 0o644, "long name"), deep, symlink(longName+"-link", longPath), hardlink(longPath[:len(longPath)-1]+"g", deep),
		dir("names", 0o755), file(notUTF8, 0o644, "latin 1"), file("names/ sp\nace\t", 0o644, "blank"), file("names/☃", 0o644, "snowman"), file("names/...", 0o644, "dots"),
		file("./dotted/./name", 0o644, "dot"), noise("big", 3<<20, 77), file("zeros", 0o644, strings.Repeat("\x00", 1<<20)),
	)
	empty := makeLayer(t, gzipped)
	top := makeLayer(t, gzipped, dir("etc", 0o755), file(trickyFile[1:], 0o644, trickyText))
	return makeImage(t, imageSpec{
		// The empty layer stands in it twice, as it does in many real images.
		layers: []layer{baseLayer(t, 0), below, change, empty, kinds, times, empty, top}, label: label,
		cmd: []string{"/bin/cat", trickyFile},
	})
}

// wordImage prints a word, from a file in its top layer.
func wordImage(t *testing.T, word string, below ...layer) image {
	t.Helper()
	return makeImage(t, imageSpec{
		layers: append(slices.Clone(below), smallLayer(t, "etc/word", word+"\n")), cmd: []string{"/bin/cat", "/etc/word"}, label: word})
}

// killImage is one whose layers take turns in coming to an end.
func killImage(t *testing.T) image {
	t.Helper()
	return makeImage(t, imageSpec{layers: []layer{
		baseLayer(t, 0), noiseLayer(t, 6<<20, 1), noiseLayer(t, 3<<20, 2), smallLayer(t, "word", "last")}})
}
