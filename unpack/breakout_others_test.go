package unpack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// otherCases are those of projects that do not unpack layers, and have learnt the
// same lessons: their tests, and the tars that their CVEs were about.
var otherCases = []hostile{
	// GNU tar: NEWS, the testsuite's link and extrac groups.
	{from: "GNU tar", name: "CVE-2001-1267", guards: "a name with .. in the middle", layer: []entry{folder("a"), file("a/../../victim", "x")}, refuse: "leads out"},
	{from: "GNU tar", name: "CVE-2002-0399/slash", guards: "a check that a slash in front of .. gets by", layer: []entry{file("//../victim", "x")}, refuse: "leads out"},
	{from: "GNU tar", name: "CVE-2002-0399/dot", guards: "one that a dot gets by", layer: []entry{file("./../victim", "x")}, refuse: "leads out"},
	{from: "GNU tar", name: "CVE-2006-0300", guards: "PAX records that say nothing of their length", raw: slices.Concat(block('x', "pax", 12, ""), body("99999999999 a"), trailer), refuse: "no valid tar"},
	{from: "GNU tar", name: "CVE-2006-6097", guards: "an old type of entry (N) that makes symlinks out of its content",
		raw: slices.Concat(block('N', "././@MangledNames", 37, ""), body("Symlink ../canary to s\nRename a to b"), trailer), refuse: "none that a layer may have"},
	{from: "GNU tar", name: "CVE-2016-6321", guards: "a name that is cut behind its .., and so means another file",
		differ: "tar extracts etc/shadow from there; here the name is cleaned, and is the same file inside", layer: []entry{file("etc/motd/../shadow", "x")},
		want: []string{"etc: " + dir755, `etc/shadow: file 0644 0:0 "x"`}},
	{from: "GNU tar", name: "CVE-2025-45582", guards: "a symlink of one archive and a name behind it in the next",
		below: [][]entry{{symlink("x", "../canary")}}, layer: []entry{file("x/file", "key")},
		want:   []string{"x: " + dir755, `x/file: file 0644 0:0 "key"`},
		merged: []string{"x: " + dir755, `x/file: file 0644 0:0 "key"`}},
	{from: "GNU tar", name: "extrac: symlinks over existing files", guards: "a symlink that is not made, or a file that is written through it", layer: []entry{file("file", "1"), file("link", "2"), symlink("link", "file")},
		want: []string{`file: file 0644 0:0 "1"`, "link: " + linkTo + "file"}},
	{from: "GNU tar", name: "link: a symlink held back, and hardlinks to it", guards: "tar's placeholders for symlinks that lead out, which hardlinks could keep",
		layer: []entry{symlink("a", "../canary/file"), hardlink("b", "a"), hardlink("c", "b"), file("a", "x")},
		want:  []string{`a: file 0644 0:0 "x"`, "b: " + linkTo + "../canary/file links 2 =b", "c: " + linkTo + "../canary/file links 2 =b"}},
	{from: "GNU tar", name: "link: a directory behind one held back", guards: "a directory that is made in a placeholder's place", layer: []entry{symlink("a", out+"/canary"), folder("a/"), file("a/file", "x"), symlink("a/up", "..")},
		want: []string{"a: " + dir755 + opaque, `a/file: file 0644 0:0 "x"`, "a/up: " + linkTo + ".."}},

	// libarchive: test_write_disk_secure*.c and test_write_disk_fixup.c.
	{from: "libarchive", name: "test_write_disk_secure", guards: "a file and a directory behind a symlink",
		differ: "libarchive refuses, or makes a directory of it; images are full of such symlinks, and it is resolved inside",
		layer:  []entry{mode(folder("dir"), 0o777), symlink("link_to_dir", "dir"), mode(file("link_to_dir/filea", ""), 0o777), symlink("link_to_dir2", "dir"), mode(file("link_to_dir2/filec", ""), 0o777)},
		want:   []string{"dir: dir 0777 0:0", `dir/filea: file 0777 0:0 ""`, `dir/filec: file 0777 0:0 ""`, "link_to_dir: " + linkTo + "dir", "link_to_dir2: " + linkTo + "dir"}},
	{from: "libarchive", name: "test_write_disk_secure744", guards: "names that are too long for the check (CVE-2016-5418)", layer: longLinks(), want: longLinksTree()},
	{from: "libarchive", name: "test_write_disk_secure745", guards: "a directory's mode that is set through a symlink", layer: []entry{symlink("sym", out+"/canary"), mode(folder("sym"), 0o777)},
		want: []string{"sym: dir 0777 0:0" + opaque}},
	{from: "libarchive", name: "test_write_disk_secure746a", guards: "a hardlink out that brings content (CVE-2016-5418)", raw: hardlinkWithData("bar", "../canary/file"), refuse: "leads out"},
	{from: "libarchive", name: "test_write_disk_secure746b", guards: "the same behind a symlink", raw: slices.Concat(makeRaw(symlink("symlink", "../canary")), hardlinkWithData("bar", "symlink/file")), refuse: "not in this layer"},
	{from: "libarchive", name: "test_write_disk_fixup", guards: "CVE-2021-31566: modes and times set at the end, through what a symlink has replaced since",
		layer: []entry{mode(folder("dir1"), 0o1), mode(folder("dir2/sub"), 0o1), symlink("dir1", out+"/canary"), symlink("dir2/sub", "../../canary/dir")},
		want:  []string{"dir1: " + linkTo + "/OUT/canary", "dir2: " + dir755, "dir2/sub: " + linkTo + "../../canary/dir"}},

	// node-tar and tar-fs: their advisories.
	{from: "node-tar", name: "CVE-2018-20834", guards: "a hardlink that a file of the same name writes through", layer: []entry{hardlink("x", out+"/victim"), file("x", "overwrite")}, refuse: "not in this layer"},
	{from: "node-tar", name: "CVE-2021-32803", guards: "a cache of directories that a symlink has replaced since", layer: []entry{folder("x"), symlink("x", "../canary"), file("x/file", "x")},
		want: []string{"canary: " + dir755, `canary/file: file 0644 0:0 "x"`, "x: " + linkTo + "../canary"}},
	{from: "node-tar", name: "CVE-2021-32804", guards: "more than one slash in front", layer: []entry{file("////victim", "x"), file("///.//./////victim2", "x")},
		want: []string{`victim: file 0644 0:0 "x"`, `victim2: file 0644 0:0 "x"`}},
	{from: "node-tar", name: "CVE-2021-37701/backslash", guards: "the cache by a name with a backslash, which is a letter like others", layer: []entry{folder("a/b"), symlink(`a\b`, "../canary"), file("a/b/file", "x"), file(`a\b/file`, "y")},
		want: []string{"a: " + dir755, "a/b: " + dir755, `a/b/file: file 0644 0:0 "x"`, "a\\b: " + linkTo + "../canary", "canary: " + dir755, `canary/file: file 0644 0:0 "y"`}},
	{from: "node-tar", name: "CVE-2021-37701/case", guards: "the cache by the case of letters", layer: []entry{folder("FOO"), symlink("foo", "../canary"), file("FOO/file", "x"), file("foo/file", "y")},
		want: []string{"FOO: " + dir755, `FOO/file: file 0644 0:0 "x"`, "canary: " + dir755, `canary/file: file 0644 0:0 "y"`, "foo: " + linkTo + "../canary"}},
	{from: "node-tar", name: "CVE-2021-37712", guards: "the cache by two ways to write é", layer: []entry{folder("caf\u00e9"), symlink("cafe\u0301", "../canary"), file("caf\u00e9/file", "x"), file("cafe\u0301/file", "y")},
		want: []string{"café: " + linkTo + "../canary", "café: " + dir755, `café/file: file 0644 0:0 "x"`, "canary: " + dir755, `canary/file: file 0644 0:0 "y"`}},
	{from: "node-tar", name: "CVE-2021-37713", guards: "names with a drive: letters like others", layer: []entry{file("C:../victim", "x"), file(`C:\..\victim`, "y")},
		want: []string{"C:..: " + dir755, `C:../victim: file 0644 0:0 "x"`, `C:\..\victim: file 0644 0:0 "y"`}},
	{from: "node-tar", name: "CVE-2024-28863", guards: "a name with directories without end", layer: []entry{file(strings.Repeat("d/", 2100)+"f", "x")}, refuse: "path can have"},
	{from: "node-tar", name: "CVE-2026-23745", guards: "absolute targets that are not looked at", layer: []entry{symlink("exploit_sym", out+"/victim"), file("exploit_sym", "x"), hardlink("exploit_hard", out+"/victim")}, refuse: "not in this layer"},
	{from: "node-tar", name: "CVE-2026-23950", guards: "the cache by ß and ss", layer: []entry{folder("collision_ss"), symlink("collision_\u00df", "../canary"), file("collision_ss/file", "x"), file("collision_\u00df/file", "y")},
		want: []string{"canary: " + dir755, `canary/file: file 0644 0:0 "y"`, "collision_ss: " + dir755, `collision_ss/file: file 0644 0:0 "x"`, "collision_ß: " + linkTo + "../canary"}},
	{from: "node-tar", name: "CVE-2026-24842", guards: "a hardlink's target that is checked from the entry's directory, and linked from the root", layer: []entry{folder("a/b/c/d"), hardlink("a/b/c/d/x", "../../../../victim")}, refuse: "leads out"},
	{from: "node-tar", name: "CVE-2026-26960", guards: "a hardlink's target behind a row of symlinks, each fine by itself",
		layer: []entry{folder("a/b/c"), symlink("a/b/c/up", "../.."), symlink("a/b/escape", "c/up/../.."), hardlink("exfil", "a/b/escape/victim")}, refuse: "not in this layer"},
	{from: "tar-fs", name: "CVE-2024-12905", guards: "a hardlink to a symlink out, then written", layer: []entry{symlink("root", "/"), symlink("noop", "root"+out+"/victim"), hardlink("hardflag", "noop"), file("hardflag", "x")},
		want: []string{`hardflag: file 0644 0:0 "x"`, "noop: " + linkTo + "root/OUT/victim", "root: " + linkTo + "/"}},
	{from: "tar-fs", name: "CVE-2025-59343", guards: "a folder whose name begins like the root's", layer: []entry{symlink("s", "../root-evil"), file("s/file", "x")},
		want: []string{"root-evil: " + dir755, `root-evil/file: file 0644 0:0 "x"`, "s: " + linkTo + "../root-evil"}},

	// CPython: test_tarfile.py (TestExtractionFilters) and its CVEs.
	{from: "CPython", name: "test_absolute", guards: "an absolute name", layer: []entry{file(out+"/escaped.evil", "x")},
		want: []string{`OUT/escaped.evil: file 0644 0:0 "x"`}},
	{from: "CPython", name: "test_parent_symlink", guards: "a symlink to ., and one up from it", layer: []entry{symlink("current", "."), symlink("parent", "current/.."), blank("parent/evil")},
		want: []string{"current: " + linkTo + ".", "evil: " + emptyFile, "parent: " + linkTo + "current/.."}},
	{from: "CPython", name: "test_parent_symlink2", guards: "a symlink that is made behind a symlink to .", layer: []entry{symlink("current", "."), symlink("current/parent", ".."), blank("parent/evil")},
		want: []string{"current: " + linkTo + ".", "evil: " + emptyFile, "parent: " + linkTo + ".."}},
	{from: "CPython", name: "test_absolute_symlink", guards: "a symlink to the root's parent", layer: []entry{symlink("parent", out), blank("parent/evil")},
		want: []string{"parent: " + linkTo + "/OUT", "OUT/evil: " + emptyFile}},
	{from: "CPython", name: "test_absolute_hardlink", guards: "a hardlink to what is not there", layer: []entry{hardlink("parent", out+"/foo")}, refuse: "not in this layer"},
	{from: "CPython", name: "test_sly_relative0", guards: "a symlink's own name", layer: []entry{symlink("../moo", "..//tmp/moo")}, refuse: "leads out"},
	{from: "CPython", name: "test_sly_relative2", guards: "the same after a directory", layer: []entry{folder("tmp/"), symlink("tmp/../../moo", "tmp/../..//tmp/moo")}, refuse: "leads out"},
	{from: "CPython", name: "test_deep_symlink", guards: "taking a symlink's target from the root", layer: []entry{file("targetdir/target", "123"), hardlink("linkdir/hardlink", "targetdir/target"), symlink("linkdir/symlink", "../targetdir/target")},
		want: []string{"linkdir: " + dir755, `linkdir/hardlink: file 0644 0:0 "123" links 2 =linkdir/hardlink`, "linkdir/symlink: " + linkTo + "../targetdir/target", "targetdir: " + dir755, `targetdir/target: file 0644 0:0 "123" links 2 =linkdir/hardlink`}},
	{from: "CPython", name: "test_chains", guards: "a hardlink to a symlink", layer: []entry{symlink("linkdir/symlink", "hardlink"), symlink("symlink2", "linkdir/hardlink2"), file("targetdir/target", "123"),
		hardlink("linkdir/hardlink", "targetdir/target"), hardlink("linkdir/hardlink2", "linkdir/symlink")},
		want: []string{"linkdir: " + dir755, `linkdir/hardlink: file 0644 0:0 "123" links 2 =linkdir/hardlink`, "linkdir/hardlink2: " + linkTo + "hardlink links 2 =linkdir/hardlink2", "linkdir/symlink: " + linkTo + "hardlink links 2 =linkdir/hardlink2", "symlink2: " + linkTo + "linkdir/hardlink2", "targetdir: " + dir755, `targetdir/target: file 0644 0:0 "123" links 2 =linkdir/hardlink`}},
	{from: "CPython", name: "CVE-2024-12718", guards: "the mode and time of what a name like ./.. or a symlink to . means", layer: []entry{symlink("d", "."), mode(folder("d/.."), 0o777), mode(folder("d/../canary"), 0o777)},
		want: []string{"canary: dir 0777 0:0", "d: " + linkTo + "."}},
	{from: "CPython", name: "CVE-2025-4330", guards: "a hardlink that makes a symlink mean something else from another directory",
		layer: []entry{folder("a/b"), symlink("a/b/s", "../../canary"), hardlink("s", "a/b/s"), file("s/file", "x")},
		want:  []string{"a: " + dir755, "a/b: " + dir755, "a/b/s: " + linkTo + "../../canary links 2 =a/b/s", "canary: " + dir755, `canary/file: file 0644 0:0 "x"`, "s: " + linkTo + "../../canary links 2 =a/b/s"}},
	{from: "CPython", name: "CVE-2025-4517", guards: "a path so long that realpath gives up, and a symlink behind it", layer: pathMax(), refuse: "path can have"},
	{from: "CPython", name: "CVE-2025-8194", guards: "a negative size, which reads the same header for ever", raw: slices.Concat(negativeSize("x"), trailer), refuse: "no valid tar"},

	// filepath-securejoin: lookup_linux_test.go and join_test.go.
	{from: "filepath-securejoin", name: "nonlexical", guards: "a .. after a symlink that is taken from the name",
		layer: []entry{folder("subdir"), folder("cousinparent/cousin"), symlink("subdir/link", "../cousinparent/cousin"), symlink("l", "subdir/link/../test"), file("l/x", "")},
		want:  []string{"cousinparent: " + dir755, "cousinparent/cousin: " + dir755, "cousinparent/test: " + dir755, "cousinparent/test/x: " + emptyFile, "l: " + linkTo + "subdir/link/../test", "subdir: " + dir755, "subdir/link: " + linkTo + "../cousinparent/cousin"}},
	{from: "filepath-securejoin", name: "nonlexical-level3-abs", guards: "symlinks that lead through symlinks, absolute", layer: append(nonlexical(), file("link3/target_abs/foo", "")),
		want: nonlexicalTree("target/foo: " + emptyFile)},
	{from: "filepath-securejoin", name: "nonlexical-level3-rel", guards: "the same, relative", layer: append(nonlexical(), file("link3/target_rel/foo", "")),
		want: nonlexicalTree("target/foo: " + emptyFile)},
	{from: "filepath-securejoin", name: "nonlexical-level2-abs-open-partial-dotdot", guards: "a name's own .. behind a symlink",
		differ: "a tar's name is cleaned first, as in Docker", layer: append(nonlexical(), file("link2/link1_abs/../target/../target/foo/bar/../baz", "")),
		want: nonlexicalTree("link2/target: "+dir755, "link2/target/foo: "+dir755, "link2/target/foo/baz: "+emptyFile)},
	{from: "filepath-securejoin", name: "dangling3", guards: "a symlink to nothing with .. in it", layer: []entry{folder("a"), folder("b"), symlink("a-fake3", "a/fake/../../b"), file("a-fake3/x", "")},
		want: []string{"a: " + dir755, "a-fake3: " + linkTo + "a/fake/../../b", "b: " + dir755, "b/x: " + emptyFile}},
	{from: "filepath-securejoin", name: "deep dangling", guards: "a row of symlinks that end in nothing", layer: append(dangling(), folder("dangling/h/i/j"), file("dangling/a/x", "")),
		want: []string{"dangling: " + dir755, "dangling/a: " + linkTo + "b/c", "dangling/b: " + dir755, "dangling/b/c: " + linkTo + "../c", "dangling/c: " + linkTo + "d/e", "dangling/d: " + dir755, "dangling/d/e: " + linkTo + "../e", "dangling/e: " + linkTo + "f/../g", "dangling/f: " + dir755, "dangling/g: " + linkTo + "h/i/j/nonexistent", "dangling/h: " + dir755, "dangling/h/i: " + dir755, "dangling/h/i/j: " + dir755, "dangling/h/i/j/nonexistent: " + dir755, "dangling/h/i/j/nonexistent/x: " + emptyFile}},
	{from: "filepath-securejoin", name: "deep dangling-file", guards: "the same, that end in a file", layer: append(dangling(), file("dangling/h/i/j/nonexistent", ""), file("dangling/a/x", "")),
		want: []string{"dangling: " + dir755, "dangling/a: " + linkTo + "b/c", "dangling/b: " + dir755, "dangling/b/c: " + linkTo + "../c", "dangling/c: " + linkTo + "d/e", "dangling/d: " + dir755, "dangling/d/e: " + linkTo + "../e", "dangling/e: " + linkTo + "f/../g", "dangling/f: " + dir755, "dangling/g: " + linkTo + "h/i/j/nonexistent", "dangling/h: " + dir755, "dangling/h/i: " + dir755, "dangling/h/i/j: " + dir755, "dangling/h/i/j/nonexistent: " + dir755 + opaque, "dangling/h/i/j/nonexistent/x: " + emptyFile}},
	{from: "filepath-securejoin", name: "partial-nondir-symlink-dotdot", guards: "a .. behind a symlink to a file", layer: []entry{file("b/c/file", ""), symlink("b-file", "b/c/file/../foo"), file("b-file/x", "")},
		want: []string{"b: " + dir755, "b-file: " + linkTo + "b/c/file/../foo", "b/c: " + dir755, "b/c/file: " + emptyFile, "b/c/foo: " + dir755, "b/c/foo/x: " + emptyFile}},
	{from: "filepath-securejoin", name: "loop/basic-loop3", guards: "a loop by way of the parent", layer: []entry{symlink("loop/l", "../loop/l"), file("loop/l/x", "")}, refuse: "too many symlinks"},
	{from: "filepath-securejoin", name: "loop/link", guards: "a loop of four directories",
		layer: []entry{symlink("loop/a/link", "../b/link"), symlink("loop/b/link", "/loop/c/link"), symlink("loop/c/link", "/loop/d/link"), symlink("loop/d", "e"), symlink("loop/e/link", "../a/link"),
			symlink("loop/link", "a/link"), file("loop/link/foo", "")}, refuse: "too many symlinks"},

	// Go: archive/tar (TestInsecurePaths, CVE-2025-58183) and os.Root.
	{from: "Go", name: "TestInsecurePaths/../foo", guards: "a name that is not local", layer: []entry{file("../foo", "")}, refuse: "leads out"},
	{from: "Go", name: "TestInsecurePaths//foo", guards: "an absolute one", differ: "archive/tar can refuse it; Docker and its peers take it as inside", layer: []entry{file("/foo", "")},
		want: []string{"foo: " + emptyFile}},
	{from: "Go", name: "TestInsecurePaths/a/b/../../../c", guards: "one that leads out in the end", layer: []entry{file("a/b/../../../c", "")}, refuse: "leads out"},
	{from: "Go", name: "TestRoot/dotdot after symlink", guards: "a .. behind a symlink that goes up itself", layer: []entry{folder("a/b"), symlink("a/b/s", "../../../canary"), symlink("t", "a/b/s/../../victim"), file("t/x", "")},
		want: []string{"a: " + dir755, "a/b: " + dir755, "a/b/s: " + linkTo + "../../../canary", "canary: " + dir755, "t: " + linkTo + "a/b/s/../../victim", "victim: " + dir755, "victim/x: " + emptyFile}},
	{from: "Go", name: "TestRoot/slash after symlink to file", guards: "a slash that makes a file of the name's target", layer: []entry{symlink("s", "../victim"), mode(folder("s/"), 0o700)},
		want: []string{"s: dir 0700 0:0" + opaque}},
	{from: "Go", name: "CVE-2025-58183", guards: "a sparse map of more entries than there is memory", raw: sparseBomb(), refuse: "no valid tar"},
}

// makeRaw is a tar without its end.
func makeRaw(entries ...entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(e.header()); err != nil {
			panic(err)
		}
	}
	if err := w.Flush(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// hardlinkWithData is the end of a tar with a hardlink that has content, as POSIX
// allows and archive/tar does not write.
func hardlinkWithData(name, to string) []byte {
	h := block('1', name, 8, "")
	copy(h[157:], to)
	return slices.Concat(checksum(h), body("modified"), trailer)
}

// negativeSize is a header with a size of -512.
func negativeSize(name string) []byte {
	h := block('0', name, 0, "")
	copy(h[124:136], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\x00")
	return checksum(h)
}

// checksum gives a header that was changed its right sum.
func checksum(h []byte) []byte {
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

// sparseBomb is a file of one byte with a map of a million pieces, in PAX' 1.0.
func sparseBomb() []byte {
	m := "1000000\n" + strings.Repeat("0\n0\n", 1_000_000)
	return slices.Concat(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "x", "GNU.sparse.realsize", "1"),
		block('0', "x", int64(len(m))+1, ""), body(m+"x"), trailer)
}

// longLinks are symlinks up in directories whose names grow to what a path can
// have, and a file behind each.
func longLinks() (e []entry) {
	for dir := ""; len(dir) < 3800; dir += strings.Repeat("x", 99) + "/" {
		e = append(e, symlink(dir+"s", out+"/canary"), file(dir+"s/file", "x"))
	}
	return e
}

// longLinksTree is what comes of it: every file in the one place.
func longLinksTree() []string {
	want := []string{out[1:] + "/canary: " + dir755, out[1:] + `/canary/file: file 0644 0:0 "x"`}
	for _, e := range longLinks() {
		if e.kind == tar.TypeSymlink {
			want = append(want, e.name+": "+linkTo+e.link)
		}
		if dir := path.Dir(e.name); dir != "." && e.kind == tar.TypeSymlink {
			want = append(want, dir+": "+dir755)
		}
	}
	return want
}

// pathMax makes directories of long names and symlinks of short ones to them, so
// that a short path means one that is too long.
func pathMax() (e []entry) {
	long, at, steps := strings.Repeat("d", 247), "", ""
	for _, step := range strings.Split("abcdefghijklmnop", "") {
		e = append(e, folder(at+long), symlink(at+step, long))
		at += long + "/"
		steps += step + "/"
	}
	tail := steps + strings.Repeat("l", 254)
	return append(e, symlink(tail, strings.Repeat("../", 16)), symlink("escape", tail+"/../canary"), hardlink("flag", "escape/file"), file("flag", "x"))
}

// nonlexical is a tree of symlinks through symlinks to the directory target.
func nonlexical() []entry {
	return []entry{
		folder("target"), symlink("link1/target_abs", "/target"), symlink("link1/target_rel", "../target"),
		symlink("link2/link1_abs", "/link1"), symlink("link2/link1_rel", "../link1"),
		symlink("link3/target_abs", "/link2/link1_rel/target_rel"), symlink("link3/target_rel", "../link2/link1_rel/target_rel"),
	}
}

// nonlexicalTree is what comes of it, and of more.
func nonlexicalTree(more ...string) []string {
	return append([]string{
		"link1: " + dir755,
		"link1/target_abs: " + linkTo + "/target",
		"link1/target_rel: " + linkTo + "../target",
		"link2: " + dir755,
		"link2/link1_abs: " + linkTo + "/link1",
		"link2/link1_rel: " + linkTo + "../link1",
		"link3: " + dir755,
		"link3/target_abs: " + linkTo + "/link2/link1_rel/target_rel",
		"link3/target_rel: " + linkTo + "../link2/link1_rel/target_rel",
		"target: " + dir755,
	}, more...)
}

// dangling is a row of symlinks, from dangling/a to h/i/j/nonexistent.
func dangling() []entry {
	return []entry{
		symlink("dangling/a", "b/c"), symlink("dangling/b/c", "../c"), symlink("dangling/c", "d/e"), symlink("dangling/d/e", "../e"),
		symlink("dangling/e", "f/../g"), folder("dangling/f"), symlink("dangling/g", "h/i/j/nonexistent"),
	}
}
