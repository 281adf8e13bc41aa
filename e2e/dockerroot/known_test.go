//go:build e2e

package dockerroot

import (
	"archive/tar"
	"regexp"
	"strings"

	"github.com/fastpull/fastpull/e2e/kit"
)

// A row is one way in which fastpull differs from another on purpose, or the
// other has a bug. A row that no layer of a run needs is out of date.
type row struct {
	name string // the case
	why  string
	is   func(f *facts, d kit.Difference) bool
}

const opaqueAttr = "xattr trusted.overlay.opaque"

// dockersTable is about the files of one layer: got is fastpull's tree, want
// dockerd's.
var dockersTable = []row{
	{"whiteout, then directory", "dockerd lets what the lower layers have in it show through", func(f *facts, d kit.Difference) bool {
		return d.Attr == opaqueAttr && d.Want == "" && f.whited[d.Path]
	}},
	{"whiteout, then opaque", "an empty directory that hides what is below; dockerd's attribute goes to the whiteout, which stays one", func(f *facts, d kit.Difference) bool {
		return f.whited[d.Path] && f.opaque[d.Path] && (d.Attr == "type" && d.Want == "character device" || d.Attr == "device" || d.Attr == "mode")
	}},
	{"directory replaced by a symlink", "its time is nobody's; dockerd gives it to what the symlink leads to", func(f *facts, d kit.Difference) bool {
		return d.Attr == "mtime" && f.moved[d.Path]
	}},
	{"whiteout in an opaque directory", "there is nothing left to hide; dockerd keeps a ghost of the name", func(f *facts, d kit.Difference) bool {
		return d.Attr == "" && d.Got == "" && d.Want == "character device" && f.whited[d.Path] && f.belowOpaque(d.Path)
	}},
	{"trusted.overlay attribute in the tar", "a layer could reach into others; dockerd applies it", func(f *facts, d kit.Difference) bool {
		return strings.HasPrefix(d.Attr, "xattr trusted.overlay.") && d.Got == "" && f.overlay[d.Path]
	}},
	{"character device 0:0 in the tar", "overlayfs takes it for a whiteout, so it is one, with a whiteout's mode and time", func(f *facts, d kit.Difference) bool {
		return (d.Attr == "mode" || d.Attr == "mtime") && f.devices00[d.Path]
	}},
	{"opaque root", "the mark is ignored; dockerd sets it, and overlayfs does not look for it there", func(f *facts, d kit.Difference) bool {
		return d.Attr == opaqueAttr && d.Path == "." && d.Got == "" && f.opaque["."]
	}},
	{"attribute without a value", "set, as by Docker 29; earlier ones leave it out", func(f *facts, d kit.Difference) bool {
		return strings.HasPrefix(d.Attr, "xattr ") && d.Got == `set to ""` && d.Want == ""
	}},
	{"AUFS' own names", "no files of the image; dockerd keeps them, or makes whiteouts of them", aufsOwn},
	{"missing parent in a set-group-ID directory", "0755 as anywhere; dockerd leaves the bit that the kernel lets it inherit", func(f *facts, d kit.Difference) bool {
		return d.Attr == "mode" && d.Got == "0755" && d.Want == "2755" && !f.dirs[d.Path]
	}},
	{"whiteout in a set-group-ID directory", "nobody sees whose a whiteout is, so the group that the kernel lets it inherit stays; dockerd sets it", func(f *facts, d kit.Difference) bool {
		return d.Attr == "owner" && f.whited[d.Path] && f.want[d.Path]["type"] == "character device"
	}},
	{"symlink from before 1970", "1970, as all files; dockerd does so with all but symlinks", func(f *facts, d kit.Difference) bool {
		return d.Attr == "mtime" && f.got[d.Path]["type"] == "symlink" && strings.HasPrefix(d.Got, "1970-01-01T00:00:00Z") && d.Want < d.Got
	}},
}

// refusal is a layer or image that one refuses and the other takes.
type refusal struct {
	name string // the case
	why  string
	who  string // refuses
	says *regexp.Regexp
}

var refusals = []refusal{
	{"file, then its whiteout", "a whiteout speaks of lower layers, so the file stays", "dockerd",
		regexp.MustCompile(`failed to mknod\(.*file exists`)},
	{"file where a later entry needs a directory", "it is replaced", "dockerd",
		regexp.MustCompile(`(mkdir .*: file exists|: not a directory)`)},
	{"through a symlink to what is not there", "the missing directory is made", "dockerd",
		regexp.MustCompile(`open .*: no such file or directory`)},
	{"directory, then another kind under the same name", "the last entry holds", "dockerd",
		regexp.MustCompile(`chtimes .*: no such file or directory`)},
	{"out of the layer", "dockerd takes it as a name inside", "fastpull",
		regexp.MustCompile(`leads out of the layer`)},
	{"content that the layer itself replaces", "Docker takes it, and fails to save it", "fastpull",
		regexp.MustCompile(`could not save or push it`)},
	{"hardlink to a whiteout", "a whiteout is no file", "fastpull",
		regexp.MustCompile(`hardlink's target .* is not in this layer`)},
	{"user attribute of a symlink", "the kernel has none; the image works without", "umoci",
		regexp.MustCompile(`restore xattr metadata: .*: operation not permitted`)},
	{"file where a later layer needs a directory", "it is replaced", "umoci",
		regexp.MustCompile(`mkdir parent: .*: not a directory`)},
}

func impliedLooks(f *facts, d kit.Difference) bool {
	return f.implied[d.Path] && f.got[d.Path]["type"] == "directory" && d.Attr != "" && d.Attr != "type"
}

func aufsOwn(f *facts, d kit.Difference) bool {
	return f.aufs && (d.Attr == "" && d.Got == "" && strings.HasPrefix(d.Path, ".wh.") ||
		(d.Attr == "links" || d.Attr == "same file as") && strings.HasPrefix(f.want[d.Path]["same file as"], ".wh."))
}

// mountsTable is about the files of an image of several layers: got is what
// fastpull --rootfs makes, want is the kernel's overlay of fastpull's store.
var mountsTable = []row{
	{"missing parent", "what the layers below made it, which a store's layer does not know: there it is 0755 and root's, as in dockerd's", impliedLooks},
}

// umocisTable is about the same files: got is fastpull's tree, want umoci's.
var umocisTable = []row{
	{"the root", "it belongs to the destination, as with dockerd; umoci applies an entry for it", func(_ *facts, d kit.Difference) bool {
		return d.Path == "." && d.Attr != "type"
	}},
	{"missing parent", "what a lower layer made it, times too; umoci's change with what is done in it, and it makes new ones otherwise", impliedLooks},
	{"missing parent of a whiteout", "there, as in dockerd's layer, in place of a lower layer's file too; umoci only deletes", func(f *facts, d kit.Difference) bool {
		return f.implied[d.Path] && (d.Attr == "" || d.Attr == "type") && d.Got == "directory" && d.Want != "symlink"
	}},
	{"opaque root of an image", "the mark is ignored, as overlayfs ignores it; umoci deletes all lower layers", func(f *facts, d kit.Difference) bool {
		// What is not deleted is in its turn deleted by nothing: only files more.
		return f.opaque["."] && (d.Attr == "" && d.Want == "" || d.Attr == "same file as")
	}},
	{"hardlink with metadata of its own", "the last of a file's entries holds, as with dockerd; umoci applies the first", (*facts).hardlinkApplied},
	{"time of a directory", "the layer's; umoci's changes with what later entries do in it", func(f *facts, d kit.Difference) bool {
		return d.Attr == "mtime" && f.dirs[d.Path] && d.Want == "not from the image"
	}},
	{"time before 1970", "1970, as with dockerd", func(f *facts, d kit.Difference) bool {
		return d.Attr == "mtime" && strings.HasPrefix(d.Got, "1970-01-01T00:00:00Z") && d.Want < d.Got
	}},
	{"character device 0:0 in an image", "a whiteout; umoci makes the device", func(f *facts, d kit.Difference) bool {
		return d.Attr == "" && d.Want == "character device" && f.devices00[d.Path]
	}},
	{"AUFS' own names in an image", "no files of the image; umoci keeps them", aufsOwn},
	// The last, since it is about whatever such an image has.
	{"symlink of a lower layer, then a file through it", "a real directory, as in dockerd's layer, which knows no other; umoci follows the symlink", func(f *facts, _ kit.Difference) bool {
		return f.through
	}},
}

// rareLayers are cases of the tables that a usual run may be without. Images are
// made of three that follow each other and that fastpull takes; umoci refuses the
// first image, and shows in the third what it does otherwise.
var rareLayers = [][]kit.Entry{
	{kit.Symlink("s", "a").Xattr("user.note", "on a symlink")},
	{kit.Whiteout("d"), kit.Dir("d", 0o755), kit.File("d/new", 0o644, "new")},
	{kit.Whiteout("d"), kit.Opaque("d")},

	{kit.Opaque("d"), kit.Whiteout("d/a/f")},
	{kit.Dir("a", 0o755), kit.Dir("d/a", 0o755).At(kit.OldTime), kit.Symlink("d", ".")},
	{kit.Dir("d/a", 0o755), kit.Symlink("d", "none")},

	{kit.Dir("d", 0o2755).Owned(0, 5), kit.Whiteout("d/f")},
	{kit.Dir("d", 0o755).Xattr("trusted.overlay.opaque", "y"), kit.Device(tar.TypeChar, "null", 0o666, 0, 0)},
	{kit.Dir(".wh..wh.plnk", 0o700), kit.File(".wh..wh.plnk/1.2", 0o644, "aufs"), kit.File("f", 0o644, "")},

	{kit.File("d", 0o644, "").Xattr("user.note", ""), kit.Dir("e", 0o700), kit.Opaque(".")},
	{kit.File("d", 0o644, "mine"), kit.Whiteout("d/f"), kit.File("e/g", 0o644, "")},
	{kit.File("d/g", 0o644, "")},

	{kit.Device(tar.TypeChar, "null", 0o666, 0, 0), kit.Hardlink("zero", kit.File("null", 0o666, ""))},
	{kit.File("../f", 0o644, "out")},
}
