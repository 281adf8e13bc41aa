package unpack

import "archive/tar"

const (
	umociClamps  = "umoci takes a .. at the front for the root; a name that leads out is refused, as by go-archive since 0.3"
	umociAncient = "umoci extracts both in one root; a layer is a directory of its own, so that the symlink is in it"
)

var (
	opaqueT  = blank("t/.wh..wh..opq")
	fifoT    = entry{name: "t/fifo", kind: tar.TypeFifo}
	badlinkT = symlink("t/badlink", "./nothing")
	shadow   = up[:3*12] + "etc/shadow"
)

// umociCases are those of oci/layer: tar_extract_test.go, tar_extract_linux_test.go
// and xattr_linux_test.go. The directory t is their test-subdir; what they have
// in both layers or in neither is left where they have it.
var umociCases = []hostile{
	{name: "TestUnpackEntrySanitiseScoping/GarbagePrefix", guards: "a file beside the root, after a slash", differ: umociClamps, layer: []entry{file("/../victim", "container content")}, refuse: "leads out"},
	{name: "TestUnpackEntrySanitiseScoping/DotDotPrefix", guards: "the same without", differ: umociClamps, layer: []entry{file("../victim", "container content")}, refuse: "leads out"},
	{name: "TestUnpackEntrySymlinkScoping/RootPrefix", guards: "a symlink to the host's root", differ: umociAncient, layer: []entry{symlink("link", "/"), file("link/victim", "c")},
		want: []string{"link: " + linkTo + "/", `victim: file 0644 0:0 "c"`}},
	{name: "TestUnpackEntrySymlinkScoping/GarbagePrefix1", guards: "one above it", differ: umociAncient, layer: []entry{symlink("link", "/../"), file("link/victim", "c")},
		want: []string{"link: " + linkTo + "/../", `victim: file 0644 0:0 "c"`}},
	{name: "TestUnpackEntrySymlinkScoping/GarbagePrefix2", guards: "far above it", differ: umociAncient, layer: []entry{symlink("link", "/"+up), file("link/victim", "c")},
		want: []string{"link: " + linkTo + "/../../../../../../../../../../../../../../../../../../../../../../../../../../../../../../", `victim: file 0644 0:0 "c"`}},
	{name: "TestUnpackEntrySymlinkScoping/GarbagePrefix3", guards: "the same with dots between", differ: umociAncient, layer: []entry{symlink("link", "/./.././.././.././.././.././../"), file("link/victim", "c")},
		want: []string{"link: " + linkTo + "/./.././.././.././.././.././../", `victim: file 0644 0:0 "c"`}},
	{name: "TestUnpackEntrySymlinkScoping/DotDotPrefix", guards: "a relative one", differ: umociAncient, layer: []entry{symlink("link", ".."), file("link/victim", "c")},
		want: []string{"link: " + linkTo + "..", `victim: file 0644 0:0 "c"`}},
	{name: "TestUnpackEntryNonDirParent", guards: "a file in the place of a parent", layer: []entry{blank("nondir"), blank("nondir/foo/bar/baz")},
		want: []string{"nondir: " + dir755 + opaque, "nondir/foo: " + dir755, "nondir/foo/bar: " + dir755, "nondir/foo/bar/baz: " + emptyFile}},
	{name: "TestUnpackEntryParentDir", guards: "parents that nobody made", layer: []entry{file("a/b/c/file", "creating parentdirs")},
		want: []string{"a: " + dir755, "a/b: " + dir755, "a/b/c: " + dir755, `a/b/c/file: file 0644 0:0 "creating parentdirs"`}},
	{name: "CVE-2021-29136", guards: "an entry for /. that makes the root a symlink", layer: []entry{symlink("/.", out), file("victim", "x")},
		want: []string{`victim: file 0644 0:0 "x"`}},

	{name: "TestUnpackEntryWhiteout/EmptyWhiteoutName-Root", guards: "deleting the root by a whiteout of no name", layer: []entry{blank(".wh.")}, refuse: "whiteout of nothing"},
	{name: "TestUnpackEntryWhiteout/EmptyWhiteoutName", guards: "the same below directories", layer: []entry{blank("some/path/.wh.")}, refuse: "whiteout of nothing"},
	{name: "TestUnpackEntryWhiteout/FileInRoot", guards: "a deletion that is lost", below: [][]entry{{blank("rootpath")}}, layer: []entry{blank(".wh.rootpath")},
		want:   []string{"rootpath: " + deleted},
		merged: []string{}},
	{name: "TestUnpackEntryWhiteout/HiddenFileInRoot", guards: "the same with a dot", below: [][]entry{{blank(".hiddenroot")}}, layer: []entry{blank(".wh..hiddenroot")},
		want:   []string{".hiddenroot: " + deleted},
		merged: []string{}},
	{name: "TestUnpackEntryWhiteout/FileInSubdir", guards: "the same below directories", below: [][]entry{{blank("some/path/file")}}, layer: []entry{blank("some/path/.wh.file")},
		want:   []string{"some: " + dir755, "some/path: " + dir755, "some/path/file: " + deleted},
		merged: []string{"some: " + dir755, "some/path: " + dir755}},
	{name: "TestUnpackEntryWhiteout/HiddenFileInSubdir", guards: "with both", below: [][]entry{{blank("another/path/.hiddenfile")}}, layer: []entry{blank("another/path/.wh..hiddenfile")},
		want:   []string{"another: " + dir755, "another/path: " + dir755, "another/path/.hiddenfile: " + deleted},
		merged: []string{"another: " + dir755, "another/path: " + dir755}},
	{name: "TestUnpackEntryWhiteout/DirInRoot", guards: "a directory that is not deleted with all that is in it", below: [][]entry{full("rootpath")}, layer: []entry{blank(".wh.rootpath")},
		want:   []string{"rootpath: " + deleted},
		merged: []string{}},
	{name: "TestUnpackEntryWhiteout/HiddenDirInRoot", guards: "the same with a dot", below: [][]entry{full(".hiddenroot")}, layer: []entry{blank(".wh..hiddenroot")},
		want:   []string{".hiddenroot: " + deleted},
		merged: []string{}},
	{name: "TestUnpackEntryWhiteout/DirInSubdir", guards: "the same below directories", below: [][]entry{full("some/path/dir")}, layer: []entry{blank("some/path/.wh.dir")},
		want:   []string{"some: " + dir755, "some/path: " + dir755, "some/path/dir: " + deleted},
		merged: []string{"some: " + dir755, "some/path: " + dir755}},
	{name: "TestUnpackEntryWhiteout/HiddenDirInSubdir", guards: "with both", below: [][]entry{full("another/path/.hiddendir")}, layer: []entry{blank("another/path/.wh..hiddendir")},
		want:   []string{"another: " + dir755, "another/path: " + dir755, "another/path/.hiddendir: " + deleted},
		merged: []string{"another: " + dir755, "another/path: " + dir755}},

	{name: "TestUnpackOpaqueWhiteout/EmptyDir", guards: "an opaque directory with nothing in it", below: [][]entry{{folder("t")}}, layer: []entry{opaqueT},
		want:   []string{"t: " + dir755 + opaque},
		merged: []string{"t: " + dir755}},
	{name: "TestUnpackOpaqueWhiteout/OneLevel", guards: "emptying what symlinks of the layer mean, or removing them", below: [][]entry{{blank("t/file"), fifoT}},
		layer:  []entry{symlink("t/link", ".."), badlinkT, opaqueT},
		want:   []string{"t: " + dir755 + opaque, "t/badlink: " + linkTo + "./nothing", "t/link: " + linkTo + ".."},
		merged: []string{"t: " + dir755, "t/badlink: " + linkTo + "./nothing", "t/link: " + linkTo + ".."}},
	{name: "TestUnpackOpaqueWhiteout/OneLevelNoUpper", guards: "emptying what symlinks below mean", below: [][]entry{{blank("t/file"), symlink("t/link", ".."), badlinkT, fifoT}},
		layer:  []entry{opaqueT},
		want:   []string{"t: " + dir755 + opaque},
		merged: []string{"t: " + dir755}},
	{name: "TestUnpackOpaqueWhiteout/TwoLevel", guards: "the same, both, in directories of both layers",
		below:  [][]entry{{symlink("t/link", ".."), badlinkT, symlink("t/dir/link", "../badlink"), symlink("t/dir/verybadlink2", "/"+shadow)}},
		layer:  []entry{blank("t/file"), folder("t/dir"), blank("t/dir/file"), symlink("t/dir/verybadlink", shadow), opaqueT},
		want:   []string{"t: " + dir755 + opaque, "t/dir: " + dir755, "t/dir/file: " + emptyFile, "t/dir/verybadlink: " + linkTo + "../../../../../../../../../../../../etc/shadow", "t/file: " + emptyFile},
		merged: []string{"t: " + dir755, "t/dir: " + dir755, "t/dir/file: " + emptyFile, "t/dir/verybadlink: " + linkTo + "../../../../../../../../../../../../etc/shadow", "t/file: " + emptyFile}},
	{name: "TestUnpackOpaqueWhiteout/TwoLevelNoUpper", guards: "the same, all of it below",
		below:  [][]entry{{blank("t/file"), symlink("t/link", ".."), badlinkT, folder("t/dir"), blank("t/dir/file"), symlink("t/dir/link", "../badlink"), symlink("t/dir/verybadlink", shadow), symlink("t/dir/verybadlink2", "/"+shadow)}},
		layer:  []entry{opaqueT},
		want:   []string{"t: " + dir755 + opaque},
		merged: []string{"t: " + dir755}},
	{name: "TestUnpackOpaqueWhiteout/MultiLevel", guards: "keeping a part of a tree that is replaced, and no more",
		below: [][]entry{{symlink("t/1link", ".."), blank("t/1a/2file"), folder("t/1a/2a"), blank("t/1a/2a/3a"), blank("t/1a/2a/3b"), blank("t/1a/2b/3b"), folder("t/1a/2b/3/4"),
			folder("t/1b"), blank("t/1b/2a"), blank("t/1b/2b"), folder("t/1b/2"), blank("t/1b/2/3")}},
		layer:  []entry{blank("t/1file"), folder("t/1a"), symlink("t/1a/2link", "../../../"), folder("t/1a/2b"), blank("t/1a/2b/3a"), opaqueT},
		want:   []string{"t: " + dir755 + opaque, "t/1a: " + dir755, "t/1a/2b: " + dir755, "t/1a/2b/3a: " + emptyFile, "t/1a/2link: " + linkTo + "../../../", "t/1file: " + emptyFile},
		merged: []string{"t: " + dir755, "t/1a: " + dir755, "t/1a/2b: " + dir755, "t/1a/2b/3a: " + emptyFile, "t/1a/2link: " + linkTo + "../../../", "t/1file: " + emptyFile}},
	{name: "TestUnpackOpaqueWhiteout/MultiLevelNoUpper", guards: "removing a deep tree with a symlink up in it",
		below: [][]entry{{blank("t/1file"), symlink("t/1link", ".."), folder("t/1a"), blank("t/1a/2file"), symlink("t/1a/2link", "../../../"), folder("t/1a/2a"), blank("t/1a/2a/3a"), blank("t/1a/2a/3b"),
			folder("t/1a/2b"), blank("t/1a/2b/3a"), blank("t/1a/2b/3b"), folder("t/1a/2b/3/4"), folder("t/1b"), blank("t/1b/2a"), blank("t/1b/2b"), folder("t/1b/2"), blank("t/1b/2/3")}},
		layer:  []entry{opaqueT},
		want:   []string{"t: " + dir755 + opaque},
		merged: []string{"t: " + dir755}},
	{name: "TestUnpackOpaqueWhiteout/MissingUpperAncestor", guards: "losing the parents of a file that stays",
		below:  [][]entry{{folder("t/some"), folder("t/some/dir"), folder("t/another"), folder("t/another/dir"), blank("t/another/dir/somewhere")}},
		layer:  []entry{blank("t/some/dir/somewhere"), opaqueT},
		want:   []string{"t: " + dir755 + opaque, "t/some: " + dir755, "t/some/dir: " + dir755, "t/some/dir/somewhere: " + emptyFile},
		merged: []string{"t: " + dir755, "t/some: " + dir755, "t/some/dir: " + dir755, "t/some/dir/somewhere: " + emptyFile}},
	{name: "TestUnpackOpaqueWhiteout/UpperWhiteout", guards: "a whiteout that deletes the layer's own file, before it or after", below: [][]entry{{blank("t/fileC")}},
		layer:  []entry{blank("t/.wh.fileB"), blank("t/fileA"), blank("t/fileB"), blank("t/.wh.fileA"), blank("t/.wh.fileC"), opaqueT},
		want:   []string{"t: " + dir755 + opaque, "t/fileA: " + emptyFile, "t/fileB: " + emptyFile},
		merged: []string{"t: " + dir755, "t/fileA: " + emptyFile, "t/fileB: " + emptyFile}},
	{name: "TestUnpackOpaqueWhiteout/UpperDirWhiteout", guards: "the same with directories",
		below:  [][]entry{{blank("t/file"), symlink("t/dir1/link", "../badlink"), symlink("t/dir1/verybadlink2", "/"+shadow), symlink("t/dir2/link", "../badlink")}},
		layer:  []entry{blank("t/.wh.dir2"), folder("t/dir1"), blank("t/dir1/file"), symlink("t/dir1/verybadlink", shadow), blank("t/.wh.dir1"), folder("t/dir2"), blank("t/dir2/file"), opaqueT},
		want:   []string{"t: " + dir755 + opaque, "t/dir1: " + dir755 + opaque, "t/dir1/file: " + emptyFile, "t/dir1/verybadlink: " + linkTo + "../../../../../../../../../../../../etc/shadow", "t/dir2: " + dir755 + opaque, "t/dir2/file: " + emptyFile},
		merged: []string{"t: " + dir755, "t/dir1: " + dir755, "t/dir1/file: " + emptyFile, "t/dir1/verybadlink: " + linkTo + "../../../../../../../../../../../../etc/shadow", "t/dir2: " + dir755, "t/dir2/file: " + emptyFile}},

	{name: "TestUnpackHardlink", guards: "a hardlink to a symlink that links to its target, and one with an owner", differ: "umoci takes a target that leads up for the root; here the hardlink to the symlink is by its name",
		layer: []entry{file("regular", "content"), owned(hardlink("hard link", "/regular"), 1337, 2020), symlink("link", "../../../regular"), owned(hardlink("hard link to symlink", "/link"), 1337, 2020)},
		want:  []string{`hard link: file 0644 1337:2020 "content" links 2 =hard link`, "hard link to symlink: symlink 0777 1337:2020 -> ../../../regular links 2 =hard link to symlink", "link: symlink 0777 1337:2020 -> ../../../regular links 2 =hard link to symlink", `regular: file 0644 1337:2020 "content" links 2 =hard link`}},
	{name: "TestUnpackHardlink/up", guards: "the same as umoci has it: a hardlink's target that leads up", differ: "the same: it is refused",
		layer: []entry{symlink("link", "../../../regular"), hardlink("hard link to symlink", "../../../link")}, refuse: "leads out"},
	{name: "TestUnpackEntry_OverlayfsRootfs_Whiteout", guards: "a whiteout of the layer's own file", differ: "umoci's tar is no layer that anything writes: it lets the last entry win. The image-spec has a whiteout speak of lower layers only",
		layer: []entry{blank("file"), blank(".wh.file")},
		want:  []string{"file: " + emptyFile}},
	{name: "TestUnpackEntry_OverlayfsRootfs_OpaqueWhiteout", guards: "an opaque directory that loses its files", layer: []entry{folder("dir"), blank("dir/fileindir"), blank("dir/.wh..wh..opq")},
		want: []string{"dir: " + dir755 + opaque, "dir/fileindir: " + emptyFile}},
	{name: "TestUnpackEntry_OverlayfsRootfs_Whiteout_MissingDirs", guards: "whiteouts whose parents are not there, or are no directories",
		differ: "umoci replaces a file of the layer by an opaque directory; the file stays, as a deletion is about lower layers",
		layer: []entry{blank("opaque-noparent/a/b/c/.wh..wh..opq"), blank("whiteout-noparent/a/b/.wh.c"), blank("opaque-nondir"), blank("opaque-nondir/.wh..wh..opq"),
			blank(".wh.opaque-whiteout"), blank("opaque-whiteout/.wh..wh..opq")},
		want: []string{"opaque-nondir: " + emptyFile, "opaque-noparent: " + dir755, "opaque-noparent/a: " + dir755, "opaque-noparent/a/b: " + dir755, "opaque-noparent/a/b/c: " + dir755 + opaque, "opaque-whiteout: " + dir755 + opaque, "whiteout-noparent: " + dir755, "whiteout-noparent/a: " + dir755, "whiteout-noparent/a/b: " + dir755, "whiteout-noparent/a/b/c: " + deleted}},
	{name: "TestUnpackEntry_OverlayfsRootfs_Whiteout_Nested", guards: "names of ghosts below an opaque directory",
		layer: []entry{blank("plain/foo/bar/baz/.wh.before"), blank("plain/regfile"), blank("plain/.wh..wh..opq"), blank("plain/a/b/c/d/e/f/.wh.after"), blank("plain/a/b/c/d/regfile"),
			blank("nested/a/b/c/d/.wh..wh..opq"), blank("nested/a/b/.wh..wh..opq"), blank("nested/.wh..wh..opq")},
		want: []string{"nested: " + dir755 + opaque, "nested/a: " + dir755, "nested/a/b: " + dir755 + opaque, "nested/a/b/c: " + dir755, "nested/a/b/c/d: " + dir755 + opaque, "plain: " + dir755 + opaque, "plain/a: " + dir755, "plain/a/b: " + dir755, "plain/a/b/c: " + dir755, "plain/a/b/c/d: " + dir755, "plain/a/b/c/d/e: " + dir755, "plain/a/b/c/d/e/f: " + dir755, "plain/a/b/c/d/regfile: " + emptyFile, "plain/foo: " + dir755, "plain/foo/bar: " + dir755, "plain/foo/bar/baz: " + dir755, "plain/regfile: " + emptyFile}},
	{name: "TestUnpackEntry_OverlayfsRootfs_OpaqueWhiteoutConvert", guards: "a deleted directory that shows its old files when it is made again",
		differ: "umoci drops the file before the whiteout; it is this layer's own, of which a whiteout does not speak",
		layer:  []entry{blank("dir/before"), blank(".wh.dir"), blank("dir/foo/bar"), blank("dir/abc/def")},
		want:   []string{"dir: " + dir755 + opaque, "dir/abc: " + dir755, "dir/abc/def: " + emptyFile, "dir/before: " + emptyFile, "dir/foo: " + dir755, "dir/foo/bar: " + emptyFile}},
	{name: "TestUnpackGenerateRoundTrip_ComplexXattr/trusted", guards: "overlayfs' own attributes in the tar", differ: "umoci escapes them; they are dropped, since 4.19 knows no escaping", layer: overlayXattrs("trusted."),
		want: []string{"foo: " + dir755, `foo/bar: file 0644 0:0 "file"`, "foo/baz: " + dir755, "foo/extra-nesting: " + dir755, `foo/extra-nesting/reg: file 0644 0:0 "reg"`}},
	{name: "TestUnpackGenerateRoundTrip_ComplexXattr/user", guards: "the same of the user's kind", differ: "the same", layer: overlayXattrs("user."),
		want: []string{"foo: " + dir755, `foo/bar: file 0644 0:0 "file"`, "foo/baz: " + dir755, "foo/extra-nesting: " + dir755, `foo/extra-nesting/reg: file 0644 0:0 "reg"`}},
}

// full is a directory with something in it.
func full(dir string) []entry {
	return []entry{folder(dir), file(dir+"/file1", "some value"), file(dir+"/file2", "some value"), folder(dir + "/.subdir"), file(dir+"/.subdir/file3", "some value")}
}

// overlayXattrs are entries with attributes that overlayfs would understand.
func overlayXattrs(kind string) []entry {
	return []entry{
		xattr(folder("."), kind+"overlay.opaque", "x"), xattr(folder("foo/"), kind+"overlay.fakexattr", "fakexattr"), xattr(file("foo/bar", "file"), kind+"overlay.whiteout", "foo"),
		xattr(folder("foo/baz/"), kind+"overlay.opaque", "y"), xattr(folder("foo/extra-nesting/"), kind+"overlay.overlay.opaque", "x"),
		xattr(file("foo/extra-nesting/reg", "reg"), kind+"overlay.overlay.overlay.overlay.overlay.dummy123", "dummy xattr 123"),
	}
}
