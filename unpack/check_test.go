package unpack

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// check extracts a tar and compares it with its tar-split. change is called between.
func check(t *testing.T, raw []byte, root string, o CheckOptions, change func()) (sum digest.Digest, wrong []string, err error) {
	t.Helper()
	var split bytes.Buffer
	if _, err := Extract(t.Context(), bytes.NewReader(raw), root, ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: &split}); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change()
	}
	sum, err = Check(t.Context(), &split, root, o, func(name, problem string) { wrong = append(wrong, name+": "+problem) })
	return sum, wrong, err
}

// TestCheckFindsNothing compares layers of all kinds, hostile ones too, with what
// was made of them a moment ago.
func TestCheckFindsNothing(t *testing.T) {
	for name, raw := range zoo(t) {
		t.Run(name, func(t *testing.T) {
			sum, wrong, err := check(t, raw, t.TempDir(), CheckOptions{}, nil)
			if len(wrong) > 0 || err != nil || sum != digest.FromBytes(raw) {
				t.Errorf("%q, %s, %v", wrong, sum, err)
			}
		})
	}
	// These go through symlinks of their own to what they replace: what they became is
	// not to be told from what was done to it.
	tangled := []string{"replaced directory, kept open", "AUFS' directory by another name", "SymlinkEmptyFile",
		"dangling3", "deep dangling-file", "partial-nondir-symlink-dotdot", "TestRoot/dotdot after symlink"}
	for _, tc := range hostileCases() {
		if tc.refuse != "" || repeats(tc.layer) {
			continue
		}
		t.Run(tc.from+"/"+tc.name, func(t *testing.T) {
			outside, root := tc.prison(t)
			raw := tc.tar(t, outside)
			var split bytes.Buffer
			if _, err := extractRaw(t, raw, root, ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: &split}); err != nil {
				t.Fatal(err)
			}
			err := unharmed(t, outside, "", func() error { return agrees(t, root, split.Bytes(), raw) })
			if err != nil && !(errors.Is(err, errFound) && slices.Contains(tangled, tc.name)) {
				t.Error(err)
			}
		})
	}
}

// errFound is the error of damage that is none.
var errFound = errors.New("the layer can be saved")

// agrees returns an error if Check finds no damage in a layer that cannot be saved, or
// finds some in another one.
func agrees(t *testing.T, root string, split, raw []byte) error {
	t.Helper()
	var wrong []string
	sum, err := Check(t.Context(), bytes.NewReader(split), root, CheckOptions{}, func(name, problem string) { wrong = append(wrong, fmt.Sprintf("%.200q: %s", name, problem)) })
	if len(wrong) == 0 && sum != digest.FromBytes(raw) { // as its caller does
		wrong = append(wrong, "another tar")
	}
	saved := save(t, root, split, raw)
	switch {
	case err != nil:
		return err
	case saved != nil && len(wrong) == 0:
		return fmt.Errorf("nothing is found, and the layer cannot be saved: %w", saved)
	case saved == nil && len(wrong) > 0:
		return fmt.Errorf("%w, and %q is found", errFound, wrong)
	}
	return nil
}

// save makes the tar again, as Docker does, and compares.
func save(t testing.TB, root string, split, raw []byte) error {
	t.Helper()
	sum := digest.SHA256.Digester()
	err := asm.WriteOutputTarStream(storage.NewPathFileGetter(root), storage.NewJSONUnpacker(bytes.NewReader(split)), sum.Hash())
	if err == nil && sum.Digest() != digest.FromBytes(raw) {
		err = errors.New("it is another tar")
	}
	return err
}

// TestCheckIsSave compares what Check says of the record that Docker makes of a tar,
// and fastpull made once, with what comes of saving the layer.
func TestCheckIsSave(t *testing.T) {
	for name, raw := range zoo(t) {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if _, err := extractRaw(t, raw, root, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
				t.Fatal(err)
			}
			split := recordOf(t, raw)
			if err := agrees(t, root, split, raw); err != nil {
				t.Error(err)
			}
			if err := save(t, root, split, raw); (err != nil) != slices.Contains(unsaved, name) {
				t.Errorf("with the record that Docker makes: %v", err)
			}
		})
	}
	// What Docker makes of AUFS' own names is no damage.
	raw := makeTar(t, folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", "hidden"), hardlink("a", ".wh..wh.plnk/1.2"), file(".wh..wh.aufs", ""))
	root := t.TempDir()
	if _, err := extractRaw(t, raw, root, ExtractOptions{Whiteouts: whiteout.Overlay{}}); err != nil {
		t.Fatal(err)
	}
	must(t, os.Mkdir(filepath.Join(root, ".wh..wh.plnk"), 0o755), os.Link(filepath.Join(root, "a"), filepath.Join(root, ".wh..wh.plnk/1.2")),
		unix.Mknod(filepath.Join(root, ".wh.plnk"), unix.S_IFCHR, 0), unix.Mknod(filepath.Join(root, ".wh.aufs"), unix.S_IFCHR, 0))
	split := recordOf(t, raw)
	if err := errors.Join(agrees(t, root, split, raw), save(t, root, split, raw)); err != nil {
		t.Error(err)
	}
}

// TestCheckHardlink: of the entries of a file the last one holds, and no other.
func TestCheckHardlink(t *testing.T) {
	raw := makeTar(t, mode(file("a", "1"), 0o600), xattr(owned(file("b", "2"), 1, 1), "user.x", "1"),
		mode(hardlink("a2", "a"), 0o640), xattr(owned(hardlink("b2", "b"), 2, 2), "user.x", "2"))
	root := t.TempDir()
	_, wrong, err := check(t, raw, root, CheckOptions{}, func() {
		must(t, os.Chmod(filepath.Join(root, "a"), 0o600), unix.Setxattr(filepath.Join(root, "b"), "user.x", []byte("1"), 0))
	})
	slices.Sort(wrong)
	if want := []string{"a2: its mode is 0600, not 0640", `b2: the extended attribute "user.x" is another`}; !slices.Equal(wrong, want) || err != nil {
		t.Errorf("%q, %v", wrong, err)
	}
}

// TestCheckReads tells of what is read, and leaves out what a user cannot have.
func TestCheckReads(t *testing.T) {
	raw := makeTar(t, folder("d"), mode(file("d/f", "content"), 0o4755), owned(file("d/g", "x"), 5, 6), device("null", '3', 1, 3))
	var read int64
	root := t.TempDir()
	sum, wrong, err := check(t, raw, root, CheckOptions{Rootless: true, Read: func(n int64) { read += n }}, func() {
		must(t, os.Chown(filepath.Join(root, "d/g"), 0, 0), os.Chmod(filepath.Join(root, "d/f"), 0o755), os.Remove(filepath.Join(root, "null")))
	})
	if sum != digest.FromBytes(raw) || len(wrong) > 0 || err != nil || read != 8 {
		t.Errorf("rootless: %q, %s, read %d, %v", wrong, sum, read, err)
	}
	root = t.TempDir()
	sum, wrong, err = check(t, raw, root, CheckOptions{}, func() {
		must(t, os.Remove(filepath.Join(root, "null")), os.WriteFile(filepath.Join(root, "d/f"), []byte("CONTENT"), 0),
			os.Chtimes(filepath.Join(root, "d/f"), time.Time{}, time.Unix(1, 0)), os.Symlink("x", filepath.Join(root, "d/new")))
	})
	slices.Sort(wrong)
	want := []string{"d/f: its content is not what it was", "d/new: the layer does not have it", "null: it is missing"}
	if wrong = slices.DeleteFunc(wrong, func(w string) bool { return strings.Contains(w, "time of change") }); sum != "" || !slices.Equal(wrong, want) || err != nil {
		t.Errorf("damaged: %q, %s, %v", wrong, sum, err)
	}
	for _, bad := range []string{"{", `{"type":9}`, `{"type":1,"name":"x"}`, `{"type":2,"payload":"AAAA"}` + "\n" + `{"type":1,"name":"x","position":1}`} {
		if _, err := Check(t.Context(), strings.NewReader(bad), t.TempDir(), CheckOptions{}, func(string, string) {}); err == nil {
			t.Errorf("no error for %s", bad)
		}
	}
}

// TestCheckTwice finds a name that occurs twice, in whatever form: Docker cannot read such a record.
func TestCheckTwice(t *testing.T) {
	header := base64.StdEncoding.EncodeToString(block('0', ".wh..wh.x", 0, ""))
	for second, twice := range map[string]bool{`"name":"./dir//x"`: true, `"name_raw":"ZGlyL3g="`: true, `"name":"dir/y"`: false} {
		split := fmt.Sprintf(`{"type":2,"payload":"%s"}{"type":1,"name":"dir/x"}{"type":2,"payload":"%[1]s"}{"type":1,%s}`, header, second)
		_, err := Check(t.Context(), strings.NewReader(split), t.TempDir(), CheckOptions{}, func(string, string) {})
		if errors.Is(err, storage.ErrDuplicatePath) != twice || !twice && err != nil || twice && fault.KindOf(err) != fault.Corrupt {
			t.Errorf("%s: %v", second, err)
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCheckFewFiles: what the process lacks is no difference.
func TestCheckFewFiles(t *testing.T) {
	raw := makeTar(t, folder("a"), folder("a/b"), folder("a/b/c"), file("a/b/c/f", "content"), hardlink("g", "a/b/c/f"),
		file("a/b/.wh.gone", ""), file("a/b/c/d/.wh..wh..opq", ""), file("a/b/c/d/e/.wh.hidden", ""))
	root := t.TempDir()
	var split bytes.Buffer
	if _, err := Extract(t.Context(), bytes.NewReader(raw), root, ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: &split}); err != nil {
		t.Fatal(err)
	}
	lacked := 0
	for n := range 40 {
		restore := testkit.FewFiles(t, n)
		found := 0
		sum, err := Check(t.Context(), bytes.NewReader(split.Bytes()), root, CheckOptions{}, func(name, problem string) { found++ })
		restore()
		switch {
		case fault.Exhausted(err) && found == 0:
			lacked++
		case err != nil || found > 0 || sum != digest.FromBytes(raw):
			t.Errorf("%d files: %d differences, %s, %v", n, found, sum, err)
		}
	}
	if lacked < 4 || lacked > 30 {
		t.Errorf("of 40 numbers of files %d are too few", lacked)
	}
}
