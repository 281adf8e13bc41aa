package unpack

import (
	"bytes"
	"slices"
	"strings"
)

// with returns a header that has text at an offset, and the sum that goes with it.
func with(h []byte, at int, text string) []byte {
	h = slices.Clone(h)
	copy(h[at:], text)
	return checksum(h)
}

// records is a PAX header with the given bytes for its records.
func records(kind byte, text string) []byte {
	return slices.Concat(block(kind, "pax", int64(len(text)), ""), body(text))
}

// one is a file of one byte.
func one(name string) []byte { return slices.Concat(block('0', name, 1, ""), body("x")) }

// toward is a symlink or hardlink.
func toward(kind byte, name, to string) []byte { return with(block(kind, name, 0, ""), 157, to) }

// huge is 8 EiB less a byte, as GNU's tar writes numbers that are too large for digits.
const huge = "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"

// oddTars are what no tar program writes: headers that lie, contradict each other, or
// end too soon. FuzzTar begins with them.
func oddTars() [][]byte {
	var all [][]byte
	for _, entries := range slices.Concat(oddHeaders(), oddRecords(), oddLinks(), oddSparse()) {
		all = append(all, slices.Concat(entries, trailer))
	}
	return append(all,
		slices.Concat(one("a"), one("b")[:300]),             // cut in a header
		slices.Concat(block('0', "a", 5000, ""), body("x")), // cut in content
		slices.Concat(one("a"), pax("path", "b")[:700]),     // cut in records
		slices.Concat(one("a"), trailer[:512], one("../victim"), trailer),
		slices.Concat(one("a"), trailer, one("../victim"), trailer),
	)
}

func oddHeaders() [][]byte {
	file := block('0', "a", 0, "")
	signed := block('0', "caf\xe9", 0, "")
	copy(signed[148:], "006411\x00 ") // the sum of signed bytes, as some tars have written
	wrong := one("a")
	wrong[0] = 'b'
	old := block(0, "a", 1, "")
	clear(old[257:])
	return [][]byte{
		with(file, 124, strings.Repeat("\xff", 12)), // a size of -1
		with(file, 124, "\x80\x00\x00\x01"),         // a size beyond 64 bits
		with(file, 124, huge),
		slices.Concat(with(file, 124, "            "), one("b")),
		slices.Concat(with(file, 124, "000000000001"), body("x")), // no terminator
		slices.Concat(with(file, 124, "0000000000x"), body("x")),
		with(file, 100, "7777777"),                          // all bits of the mode
		with(file, 108, "\x80\x00\x00\x00\xff\xff\xff\xff"), // an owner that is -1 in 32 bits
		with(block('3', "a", 0, ""), 329, strings.Repeat("\x80\xff\xff\xff\xff\xff\xff\xff", 2)),
		with(block('3', "a", 0, ""), 329, "0000000\x000000000"), // overlay's whiteout
		with(file, 136, strings.Repeat("\xff", 12)),             // a second before 1970
		with(file, 136, huge),
		signed, wrong,
		slices.Concat(one("b"), wrong),
		slices.Concat(checksum(old), body("x")),                     // without magic
		with(with(file, 345, strings.Repeat("p", 131)), 508, "tar"), // star's
		with(block('0', "victim", 0, ""), 345, ".."),                // the prefix climbs
		with(block('0', strings.Repeat("n", 100), 0, ""), 345, strings.Repeat("p", 155)),
		slices.Concat(block('Z', "a", 1, ""), body("x"), one("b")), // a kind that is unknown
		slices.Concat(block('7', "a", 1, ""), body("x")),
		slices.Concat(block('V', "label", 0, ""), block('M', "rest", 1, ""), body("x"), one("b")),
		slices.Concat(block('D', "dir/", 7, ""), body("Ya\x00Nb\x00\x00")),
		slices.Concat(one("."), one("/"), one("")),
		slices.Concat(one("//a//./b/../c/"), one("a/./../../victim")),
		slices.Concat(one(`..\victim`), one(`C:\victim`)),
		slices.Concat(one(".wh.."), one(".wh..."), one("d/.wh...")),
		slices.Concat(block('5', ".wh.a", 0, ""), one(".wh.a/b")),
		slices.Concat(one("a"), one(".wh.a"), one("a")),
	}
}

// oddRecords are PAX headers, and GNU's long names, which are for the same.
func oddRecords() [][]byte {
	long := func(kind byte, size int64, text string) []byte {
		return slices.Concat(block(kind, "././@LongLink", size, ""), body(text))
	}
	var all [][]byte
	for _, text := range []string{
		"999 path=a\n", "99999999999999999999 path=a\n", "9 path=aa", "+9 path=a\n", "0 path=a\n", "9\tpath=a\n", "7 path\n\n", "\n", strings.Repeat("9", 512),
	} {
		all = append(all, slices.Concat(records('x', text), one("b")))
	}
	for _, pairs := range [][]string{
		{"size", "9223372036854775807"}, {"size", "-1"}, {"size", "0"}, {"size", "0x1"}, {"size", ""},
		{"path", "c", "path", "../victim"}, {"path", "../victim"}, {"path", "a\x00b"}, {"path", ""}, {"path", "caf\xe9"},
		{"path", strings.Repeat("n", 256)}, {"path", strings.Repeat("d/", 2048) + "f"}, {"path", strings.Repeat("d/", 600) + "f"},
		{"mtime", "99999999999999999999.5"}, {"mtime", "-9223372036854775808.999999999"}, {"mtime", "1." + strings.Repeat("9", 200)}, {"mtime", "1e9"}, {"atime", "-"},
		{"uid", "4294967296"}, {"gid", "-1"}, {"hdrcharset", "BINARY"}, {"linkpath", "../victim"}, {"SCHILY.realsize", "1"},
		{"SCHILY.xattr.", "v"}, {"SCHILY.xattr.user." + strings.Repeat("n", 300), "v"}, {"SCHILY.xattr.user.a=b", "c"}, {"SCHILY.xattr.nothing", "v"},
		{"SCHILY.xattr.user.a", "1", "LIBARCHIVE.xattr.user.a", "Mg=="}, {"SCHILY.xattr.user.a", strings.Repeat("v", 1000)},
		{"SCHILY.xattr.trusted.overlay.opaque", "y", "SCHILY.xattr.trusted.overlay.redirect", "/etc"},
		{"SCHILY.xattr.security.capability", "\xff\xff\xff\xff"}, {"SCHILY.xattr.security.ima", "\x03"}, {"SCHILY.acl.access", "user::rwx,group::---"},
	} {
		all = append(all, slices.Concat(pax(pairs...), one("b")))
	}
	return append(all,
		slices.Concat(pax("path", "c"), pax("path", "d"), one("b")),
		slices.Concat(pax("path", "c"), long('L', 2, "d\x00"), one("b")),
		slices.Concat(long('L', 2, "d\x00"), pax("path", "c"), one("b")),
		slices.Concat(pax("linkpath", "../victim"), toward('1', "h", "b")),
		slices.Concat(one("a"), pax("path", "b")), // of no entry
		slices.Concat(records('g', "18 path=../victim\n"), one("a"), one("b")),
		slices.Concat(records('g', "10 size=0\n"), one("a")),
		slices.Concat(long('L', 2, "c\x00"), long('L', 2, "d\x00"), one("b")),
		slices.Concat(long('L', 1<<33-1, "c\x00"), one("b")), // 8 GiB of name
		slices.Concat(long('L', 9, strings.Repeat("\x00", 9)), one("b")),
		slices.Concat(long('K', 10, "../victim\x00"), one("b")), // the target of a file
		slices.Concat(one("a"), long('L', 2, "b\x00")),
	)
}

func oddLinks() [][]byte {
	return [][]byte{
		toward('1', "a", "a"),
		slices.Concat(block('5', "d", 0, ""), toward('1', "h", "d")),
		slices.Concat(toward('2', "s", "../victim"), toward('1', "h", "s"), one("h")),
		slices.Concat(toward('1', "h", "."), toward('1', "i", "/")),
		slices.Concat(toward('2', "a", "b"), toward('2', "b", "a"), one("a/x")),
		slices.Concat(toward('2', "a", ""), one("a/x")),
		slices.Concat(toward('2', "s", "/proc/self/root"), one("s/victim"), toward('2', "t", "/proc/self/fd"), one("t/3")),
		slices.Concat(toward('2', ".", "../victim"), one("x")),
		slices.Concat(toward('2', "d", "../canary"), block('5', "d", 0, ""), one("d/file")),
		slices.Concat(toward('2', "s", "../canary"), one("s/.wh.file"), one("s/.wh..wh..opq")),
		toward('2', "d/.wh..wh..opq", "../victim"),
		slices.Concat(one("a"), toward('1', ".wh.a", "a"), toward('2', ".wh.b", "a")),
	}
}

func oddSparse() [][]byte {
	data := bytes.Repeat([]byte("d"), 512)
	sparse := block('S', "sparse", 512, "00000000000\x0000000001000\x00")
	of := func(at int, text string) []byte { return slices.Concat(with(sparse, at, text), data) }
	pax10 := func(name, realsize, pieces string) []byte {
		return slices.Concat(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", name, "GNU.sparse.realsize", realsize),
			block('0', "x", int64(len(body(pieces))), ""), body(pieces))
	}
	return [][]byte{
		of(483, "00000000777"),                                                  // shorter than its one piece
		of(410, "00000000144\x0000000001000\x00"),                               // pieces that overlap
		of(386, "00000010000\x0000000000144\x0000000000000\x0000000000634\x00"), // pieces backwards
		of(386, huge+huge),                                                      // a sum beyond 64 bits
		of(483, huge),                                                           // a file of 8 EiB
		of(482, "\x01"),                                                         // more pieces, of which there are none
		with(sparse, 482, "\x01"),
		pax10("s", "10", "1152921504606846976\n0\n1\n"),
		pax10("s", "10", "-1\n"),
		pax10("s", "10", strings.Repeat("1", 512)),
		pax10("s", "9223372036854775807", "1\n9223372036854775807\n0\n"),
		pax10("../victim", "0", "0\n"),
		slices.Concat(pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.size", "5", "GNU.sparse.numblocks", "9", "GNU.sparse.map", "0,1"), one("s")),
		slices.Concat(pax("GNU.sparse.size", "5", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "0", "GNU.sparse.offset", "1", "GNU.sparse.numbytes", "1"), one("s")),
	}
}
