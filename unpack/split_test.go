package unpack

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/nameset"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// block is a tar header by hand, for what archive/tar does not write: GNU's if
// more is given, which goes to the offset 386 (sparse map and real size).
func block(kind byte, name string, size int64, more string) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 1_600_000_000))
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	if more != "" {
		copy(b[257:], "ustar  \x00")
		copy(b[386:], more)
	}
	sum := int64(8 * ' ')
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// linked is the header of a hardlink that has a size.
func linked(name, to string, size int64) []byte {
	b := block('1', name, size, "")
	copy(b[157:], to)
	copy(b[148:], "        ")
	var sum int64
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// body fills content up to whole blocks.
func body(s string) []byte { return append([]byte(s), make([]byte, -len(s)&511)...) }

// pax is a PAX header of records.
func pax(records ...string) []byte {
	var s string
	for i := 0; i < len(records); i += 2 {
		rec := " " + records[i] + "=" + records[i+1] + "\n"
		n := len(rec) + 1
		for len(fmt.Sprint(n))+len(rec) != n {
			n++
		}
		s += fmt.Sprint(n) + rec
	}
	return slices.Concat(block('x', "pax", int64(len(s)), ""), body(s))
}

var trailer = make([]byte, 1024)

// oldSparse is a file of 10 bytes real and the given size, in GNU's old format.
func oldSparse(name string, size int64) []byte {
	return slices.Concat(block('S', name, 10, sparseMap(size)), body("0123456789"))
}

// sparseMap is one entry at 0 of 10 bytes, one of none at the end, and the size.
func sparseMap(size int64) string {
	m := []byte(fmt.Sprintf("%011o\x00%011o\x00", 0, 10))
	m = append(m, make([]byte, 96-len(m))...)
	m = append(m, 0) // not extended
	if size < 1<<33 {
		return string(append(m, fmt.Sprintf("%011o\x00", size)...))
	}
	m = append(m, 0x80, 0, 0, 0) // base 256
	for i := 56; i >= 0; i -= 8 {
		m = append(m, byte(size>>i))
	}
	return string(m)
}

func zoo(t testing.TB) map[string][]byte {
	long := strings.Repeat("long/", 40) + "name"
	gnu := func(hs ...*tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			h.Format = tar.FormatGNU
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	usual := makeTar(t, folder("d"), file("d/f", "content"), file("d/empty", ""), hardlink("d/h", "d/f"), symlink("s", "d"), file("d/.wh.x", ""),
		xattr(file("x", "1"), "user.a", "b"), file("big", string(testkit.Content(300<<10))), file(long, "1"), device("null", tar.TypeChar, 1, 3))
	return map[string][]byte{
		"usual":                             usual,
		"empty":                             makeTar(t),
		"nothing":                           nil,
		"GNU long names":                    gnu(&tar.Header{Name: long, Size: 3, Mode: 0o644}, &tar.Header{Name: "s", Typeflag: tar.TypeSymlink, Linkname: long, Mode: 0o777}, &tar.Header{Name: "big", Uid: 1 << 30, Mode: 0o644}),
		"not UTF-8":                         gnu(&tar.Header{Name: "caf\xe9", Size: 1, Mode: 0o644}, &tar.Header{Name: strings.Repeat("\xff", 120), Mode: 0o644}),
		"more padding":                      slices.Concat(usual, make([]byte, 9<<10)),
		"a lot of it":                       slices.Concat(usual, make([]byte, 2<<20+512)),
		"junk behind":                       slices.Concat(usual, []byte("junk that tar does not look at")),
		"no trailer":                        bytes.TrimRight(makeTar(t, file("x", strings.Repeat("1", 512))), "\x00"),
		"half a trailer":                    slices.Concat(block('0', "x", 3, ""), body("abc"), trailer[:512]),
		"junk in padding":                   slices.Concat(block('0', "x", 3, ""), append([]byte("abc"), bytes.Repeat([]byte("j"), 509)...), trailer),
		"directory with a size":             slices.Concat(block('5', "d", 77, ""), block('0', "d/x", 3, ""), body("abc"), trailer),
		"hardlink with a size":              slices.Concat(block('0', "x", 3, ""), body("abc"), linked("y", "x", 3), linked("z", "x", 700), block('0', "v", 1, ""), body("1"), trailer),
		"directory by slash":                slices.Concat(block(0, "old/", 0, ""), block(0, "old/f", 1, ""), body("1"), trailer),
		"PAX name":                          slices.Concat(pax("path", "by/pax", "mtime", "1600000000.123456789"), block('0', "short", 2, ""), body("hi"), trailer),
		"global header":                     makeTar(t, entry{name: "pax_global_header", kind: tar.TypeXGlobalHeader}, file("x", "1")),
		"old sparse":                        slices.Concat(oldSparse("sparse", 100_000), trailer),
		"PAX sparse 0.1":                    slices.Concat(pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.size", "5000", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "4096,3"), block('0', "sparse", 3, ""), body("end"), trailer),
		"PAX sparse 1.0":                    slices.Concat(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "sparse", "GNU.sparse.realsize", "5000"), block('0', "GNUSparseFile.0/sparse", 512+3, ""), body("1\n4096\n3\n"), body("end"), trailer),
		"sparse without content":            slices.Concat(pax("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "sparse", "GNU.sparse.realsize", "0"), block('0', "GNUSparseFile.0/sparse", 512, ""), body("0\n"), block('0', "x", 1, ""), body("1"), trailer),
		"through an absolute symlink":       makeTar(t, folder("d"), symlink("s", "/d"), file("s/f", "content"), file("s/e/g", "more"), file("d/h", "and more"), folder("s/i"), file("s/i/j", "in it")),
		"through a symlink that climbs out": makeTar(t, folder("d/e"), symlink("d/s", "../../d/e"), file("d/s/f", "content"), symlink("d/t", "../d/e"), file("d/t/g", "found")),
		"a block that is cut":               slices.Concat(block('0', "x", 3, ""), body("abc")[:100]),
		"AUFS":                              makeTar(t, file(".wh..wh.plnk/1.2", "hidden"), hardlink("a", ".wh..wh.plnk/1.2")),
		"opaque root":                       makeTar(t, file(".wh..wh..opq", ""), file("x", "1"), file(".wh.y", "")),
		"below a file":                      makeTar(t, file("f", "mine"), file("f/.wh.x", ""), file("f/.wh..wh..opq", "content"), file("f/.wh..wh.y", "more")),
		"content nobody wants":              makeTar(t, file(".wh.x", "a whiteout with content"), file("d/.wh..wh..opq", "another"), file(".wh..wh.aufs", "and another"), file("y", "")),
	}
}

// unsaved are the tars of zoo that Docker cannot make again of its own record.
var unsaved = []string{"AUFS", "below a file", "content nobody wants", "directory with a size", "hardlink with a size",
	"old sparse", "PAX sparse 0.1", "PAX sparse 1.0", "sparse without content", "through an absolute symlink", "through a symlink that climbs out", "a block that is cut"}

// What is recorded is, byte for byte, what tar-split records of the same tar, unless
// the tar could not be made again of that.
func TestTarSplit(t *testing.T) {
	for name, raw := range zoo(t) {
		t.Run(name, func(t *testing.T) {
			want := recordOf(t, raw)
			for how, in := range map[string]io.Reader{"whole": bytes.NewReader(raw), "in bits": iotest.HalfReader(iotest.DataErrReader(bytes.NewReader(raw)))} {
				var got bytes.Buffer
				root := t.TempDir()
				if _, err := Extract(t.Context(), in, root, ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: &got}); err != nil {
					t.Fatal(err)
				}
				if !slices.Contains(unsaved, name) && !bytes.Equal(got.Bytes(), want) {
					t.Errorf("%s: got\n%.2000s\nwant\n%.2000s", how, &got, want)
				}
				if err := save(t, root, got.Bytes(), raw); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// recordOf is what tar-split itself records of a tar.
func recordOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	var record bytes.Buffer
	same, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(raw), storage.NewJSONPacker(&record), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(same)
	if err = errors.Join(err, <-done); err != nil || !bytes.Equal(b, raw) {
		t.Fatalf("tar-split itself: %v", err)
	}
	return record.Bytes()
}

func TestSparse(t *testing.T) {
	for name, raw := range zoo(t) {
		size := map[string]int{"old sparse": 100_000, "PAX sparse 0.1": 5000, "PAX sparse 1.0": 5000}[name]
		if size == 0 {
			continue
		}
		want := make([]byte, size)
		copy(want, "0123456789")
		if size == 5000 {
			clear(want)
			copy(want[4096:], "end")
		}
		root := t.TempDir()
		stats, err := extractRaw(t, raw, root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
		files, ferr := OpenFiles(root)
		if err := errors.Join(err, ferr); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		f, err := files.Get("sparse")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(f)
		f.Close()
		files.Close()
		if !bytes.Equal(got, want) || stats.Size != int64(len(want)) {
			t.Errorf("%s: %d bytes, Size %d, want %d", name, len(got), stats.Size, len(want))
		}
	}
}

// A tar that cannot be read is the layer's fault, and nothing waits or grows.
func TestBadTars(t *testing.T) {
	ok := makeTar(t, file("a", "1"))
	bad := bytes.Clone(ok)
	bad[len("a")+2] ^= 1 // its checksum does not hold
	var many []byte
	for range 40 {
		many = append(many, pax("comment", strings.Repeat("x", 1<<19))...)
	}
	for name, tc := range map[string]struct {
		raw []byte
		say string
	}{
		"no tar":                  {bytes.Repeat([]byte("junk"), 1000), "no valid tar"},
		"short":                   {[]byte("junk"), "no valid tar"},
		"wrong checksum":          {bad, "no valid tar"},
		"cut in a header":         {ok[:300], "no valid tar"},
		"cut in content":          {makeTar(t, file("a", "0123456789"))[:1024+512+5], "no valid tar"},
		"zero block, then junk":   {slices.Concat(trailer[:512], bytes.Repeat([]byte("j"), 512)), "no valid tar"},
		"NUL in a PAX name":       {slices.Concat(pax("path", "a\x00b"), block('0', "x", 0, ""), trailer), "no valid tar"},
		"headers without end":     {many, "headers of one entry"}, // CVE-2025-58183 is of this kind
		"a sparse file of 4 EiB":  {slices.Concat(oldSparse("s", 1<<62), trailer), "sparse file of"},
		"a whiteout of 4 EiB":     {slices.Concat(oldSparse(".wh.s", 1<<62), trailer), "sparse file of"},
		"sparse map that says no": {slices.Concat(pax("GNU.sparse.major", "0", "GNU.sparse.minor", "1", "GNU.sparse.size", "5", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "4096,3"), block('0', "s", 3, ""), body("end"), trailer), "no valid tar"},
		"negative size":           {slices.Concat(pax("size", "-1"), block('0', "x", 0, ""), trailer), "no valid tar"},
	} {
		_, err := extractRaw(t, tc.raw, t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: io.Discard})
		t.Log(name)
		refused(t, err, tc.say)
	}
}

// A blob that was damaged on its way may look like a bad tar first. It is the
// blob that is at fault: it has to be fetched again.
func TestDamagedBlobIsBlamed(t *testing.T) {
	raw := makeTar(t, file("a", "1"), file("b", string(testkit.Content(1<<20))))
	bad := bytes.Clone(raw)
	bad[1024+10] ^= 0x40 // the second header
	want := decode.Expect{Digest: digest.FromBytes(raw), Size: int64(len(raw)), DiffID: digest.FromBytes(raw)}
	r := decode.NewReader(t.Context(), io.NopCloser(bytes.NewReader(bad)), want, decode.ReaderOptions{})
	defer r.Close()
	_, err := Extract(t.Context(), r, t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}})
	if !errors.Is(err, decode.ErrDigest) || fault.KindOf(err) != fault.Corrupt {
		t.Errorf("%v", err)
	}
	// What the source says passes through everywhere, and is not called corrupt.
	dead := errors.New("the line is dead")
	for _, source := range []error{dead, io.ErrUnexpectedEOF} {
		for at := 0; at < 6000; at += 100 {
			_, err := Extract(t.Context(), io.MultiReader(bytes.NewReader(raw[:at]), iotest.ErrReader(source)), t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: io.Discard})
			if !errors.Is(err, source) || fault.KindOf(err) != fault.Failed {
				t.Fatalf("at %d: %v", at, err)
			}
		}
	}
}

// Where the record cannot be written nothing is well.
func TestTarSplitWriteError(t *testing.T) {
	full := errors.New("disk full")
	raw := makeTar(t, file("a", strings.Repeat("x", 100)), file("b", ""))
	_, err := extractRaw(t, raw, t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: writerFunc(func([]byte) (int, error) { return 0, full })})
	if !errors.Is(err, full) || fault.KindOf(err) != fault.Failed {
		t.Errorf("%v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// The names of all layers of a run together have a limit, and a layer that was refused or
// is done leaves nothing behind.
func TestNamesAreBounded(t *testing.T) {
	names := &nameset.Budget{Most: 10_000}
	raw := makeTar(t, file("a", ""), file("b", ""))
	extract := func() error {
		_, err := extractRaw(t, raw, t.TempDir(), ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: io.Discard, Names: names})
		return err
	}
	other := nameset.Set{Budget: names}
	for range 2 {
		if err := extract(); err != nil {
			t.Errorf("it fits: %v", err)
		}
		if _, err := other.Put(1); err != nil {
			t.Fatal(err)
		}
		if err := extract(); fault.KindOf(err) != fault.Failed || !strings.Contains(fault.HintOf(err), "--jobs 1") {
			t.Errorf("it does not fit: %v", err)
		}
		other.Drop()
	}
}
