package unpack

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/unpack/whiteout"
)

const nobody = 65534

// lowerLayer and upperLayer are what nobody extracts and merges. Directories
// that are closed to their owner, as some distributions have them, stand in the
// way of a plain user.
var (
	lowerLayer = []entry{
		mode(folder("usr"), 0o555), mode(folder("usr/bin"), 0o555), owned(mode(file("usr/bin/su", ""), 0o4755), 0, 7),
		mode(folder("usr/lib"), 0o555), file("usr/lib/old", ""), file("usr/lib/keep", ""), file("usr/bin/old", ""),
		mode(folder("secret"), -1), mode(folder("secret/deep"), 0o100), mode(file("secret/deep/x", ""), -1),
		mode(folder("gone"), 0o500), mode(folder("gone/sub"), 0o400), file("gone/sub/x", ""),
		mode(folder("emptied"), 0o500), mode(folder("emptied/sub"), -1), file("emptied/sub/x", ""),
	}
	upperLayer = []entry{
		file("usr/lib/.wh.old", ""), mode(folder("usr/lib/new"), 0o555), file("usr/lib/new/x", ""), file("usr/bin/su2", ""),
		file(".wh.gone", ""), mode(folder("emptied"), 0o500), file("emptied/.wh..wh..opq", ""), file("emptied/y", ""),
		mode(folder("secret"), 0o300), file("secret/deep/y", ""), owned(mode(folder("usr/group"), 0o2555), 0, 7), xattr(mode(file("usr/ro", ""), 0o444), "user.b", "2"), device("usr/null", tar.TypeChar, 1, 3), hardlink("usr/null-too", "usr/null"),
		mode(xattr(hardlink("usr/ro-too", "usr/ro"), "user.c", "3"), 0o440), mode(file("cap-too", ""), 0o4755), owned(mode(hardlink("cap-link", "cap-too"), 0o4755), 0, 7),
		xattr(file("cap", ""), "security.capability", capability), xattr(file("user", ""), "user.a", "1"), xattr(folder("trusted"), "trusted.a", "1"),
		// replaced within the layer, by symlinks to what is closed
		mode(folder("r"), 0o500), symlink("to", "r/s"), mode(folder("r/s"), 0o500), mode(folder("to/t"), -1), file("to/t/x", ""), file("r", ""),
	}
)

// TestRootless extracts and merges as a user that may do next to nothing, by
// running this test again as nobody. What came of it is looked at as root.
func TestRootless(t *testing.T) {
	if dir := os.Getenv(asNobody); dir != "" {
		rootless(t, dir)
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "self") // where nobody may read it
	copyFile(t, "/proc/self/exe", self)

	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestRootless$")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asNobody+"="+dir, "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("as nobody: %v\n%s", err, out)
	}

	const us, dir755 = " 65534:65534", "dir 0755 65534:65534"
	usual := "file 0644" + us + ` ""`
	looksLike(t, filepath.Join(dir, "overlay"),
		"usr: "+dir755, "usr/group: dir 0555"+us, "usr/ro: file 0440"+us+` "" links 2 =usr/ro user.b="2" user.c="3"`, "usr/ro-too: file 0440"+us+` "" links 2 =usr/ro user.b="2" user.c="3"`,
		"cap-too: file 0755"+us+` "" links 2 =cap-link`, "cap-link: file 0755"+us+` "" links 2 =cap-link`, "usr/lib: "+dir755, "usr/lib/old: char 0000"+us+" 0:0", "usr/lib/new: dir 0555"+us, "usr/lib/new/x: "+usual,
		"usr/bin: "+dir755, "usr/bin/su2: "+usual, "gone: char 0000"+us+" 0:0",
		"emptied: dir 0500"+us+` user.overlay.opaque="y"`, "emptied/y: "+usual,
		"secret: dir 0300"+us, "secret/deep: "+dir755, "secret/deep/y: "+usual,
		"cap: "+usual, "user: "+usual+` user.a="1"`, "trusted: "+dir755, "r: "+usual, "to: symlink 0777"+us+" -> r/s")
	looksLike(t, filepath.Join(dir, "merged"),
		"usr: dir 0555"+us, "usr/group: dir 0555"+us, "usr/ro: file 0440"+us+` "" links 2 =usr/ro user.b="2" user.c="3"`, "usr/ro-too: file 0440"+us+` "" links 2 =usr/ro user.b="2" user.c="3"`,
		"cap-too: file 0755"+us+` "" links 2 =cap-link`, "cap-link: file 0755"+us+` "" links 2 =cap-link`, "usr/lib: dir 0555"+us, "usr/lib/keep: "+usual, "usr/lib/new: dir 0555"+us, "usr/lib/new/x: "+usual,
		"usr/bin: dir 0555"+us, "usr/bin/old: "+usual, "usr/bin/su: file 0755"+us+` ""`, "usr/bin/su2: "+usual,
		"emptied: dir 0500"+us, "emptied/y: "+usual,
		"secret: dir 0300"+us, "secret/deep: dir 0100"+us, "secret/deep/x: file 0000"+us+` ""`, "secret/deep/y: "+usual,
		"cap: "+usual, "user: "+usual+` user.a="1"`, "trusted: "+dir755, "r: "+usual, "to: symlink 0777"+us+" -> r/s")
}

// rootless runs as nobody.
func rootless(t *testing.T, dir string) {
	if os.Geteuid() != nobody {
		t.Fatalf("running as %d", os.Geteuid())
	}
	unix.Umask(0o077)
	in := func(name string) string {
		p := filepath.Join(dir, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	lower, upper := makeTar(t, lowerLayer...), makeTar(t, upperLayer...)

	stats, err := extractRaw(t, upper, in("overlay"), ExtractOptions{Whiteouts: whiteout.Overlay{User: true}, Rootless: true})
	if err != nil {
		t.Fatal(err)
	}
	if stats.NoDevice != 2 || stats.NoXattr != 2 || stats.NoOwner != 1 {
		t.Errorf("left out: %+v", stats)
	}
	merged := in("merged")
	for i, raw := range [][]byte{lower, upper} {
		layer := in([]string{"first", "second"}[i])
		var del whiteout.Deletions
		stats, err := extractRaw(t, raw, layer, ExtractOptions{Whiteouts: &del, Rootless: true})
		if err == nil {
			err = whiteout.Merge(t.Context(), merged, layer, &del)
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := 1; stats.NoOwner != want {
			t.Errorf("layer %d: %d owners left out, want %d", i, stats.NoOwner, want)
		}
	}
	// Root's ways without root: an error, and a clear one.
	if _, err := extractRaw(t, lower, in("refused"), ExtractOptions{Whiteouts: whiteout.Overlay{}}); err == nil {
		t.Error("nobody changed an owner")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
