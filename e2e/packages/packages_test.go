//go:build e2e

package packages

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/need"
)

// version is that of the packages, as of a tag. dpkg and rpm write it with a tilde.
const version, packaged = "v1.2.3-rc.1", "1.2.3~rc.1"

// makeDist makes what a release has for this machine, from the program that is tested.
func makeDist(t *testing.T, env ...string) (dist string) {
	t.Helper()
	dist = t.TempDir()
	program, err := os.ReadFile(kit.Programs.Fastpull)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dist, "fastpull-linux-"+runtime.GOARCH), program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", ".", "-version", version, dist)
	cmd.Dir = "../../packaging"
	cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return dist
}

// find returns the only file of a directory that fits a pattern.
func find(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has %q for %s, of %q", dir, found, pattern, kit.Names(t, dir))
	}
	return found[0]
}

// TestPackages installs the packages of this machine as an operator does, in a tree that has
// nothing else, and removes them.
func TestPackages(t *testing.T) {
	t.Parallel()
	dist := makeDist(t)
	t.Run("deb", func(t *testing.T) {
		t.Parallel()
		testDeb(t, find(t, dist, "fastpull_"+packaged+"_"+kit.DebianArch()+".deb"))
	})
	t.Run("lintian", func(t *testing.T) {
		t.Parallel()
		testLintian(t, find(t, dist, "fastpull_"+packaged+"_"+kit.DebianArch()+".deb"))
	})
	t.Run("rpm", func(t *testing.T) {
		t.Parallel()
		testRPM(t, find(t, dist, "fastpull-"+packaged+"-1.*.rpm"))
	})
	t.Run("equal", func(t *testing.T) {
		t.Parallel()
		testEqual(t, dist)
	})
}

// testEqual makes the release again, by another user as far as can be told.
func testEqual(t *testing.T, dist string) {
	again := makeDist(t, "TZ=Asia/Shanghai", "LC_ALL=C", "FASTPULL_STORE=/elsewhere", "XDG_DATA_HOME=/data", "DOCKER_HOST=unix:///none", "USER=other")
	names := kit.Names(t, dist)
	if !slices.Equal(names, kit.Names(t, again)) || len(names) < 5 {
		t.Fatalf("%q and %q", names, kit.Names(t, again))
	}
	for _, name := range names {
		one, err1 := os.ReadFile(filepath.Join(dist, name))
		two, err2 := os.ReadFile(filepath.Join(again, name))
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
			t.Errorf("%s is not the same when it is made again: %v, %v", name, err1, err2)
		}
	}
}

// testDeb installs a .deb on a Debian of debootstrap's, which has no network but its own
// loopback device with a registry, runs the program there, and removes the package.
func testDeb(t *testing.T, file string) {
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.SmallLayer(t, "etc/word", "here\n")}})
	reg.Push(t, "app:1", im)
	tree := newTree(t)
	kit.Run(t, "tar", "-C", tree.root, "-xpf", kit.DebianTar(t), "--numeric-owner", "--xattrs", "--xattrs-include=*")
	tree.mountProc(t)
	before := tree.names(t, true)
	ownNetwork(t)
	kit.StartServer(t, reg.Again(t, "127.0.0.1:5000"), 2*time.Second)

	tree.copy(t, file, "/tmp/fastpull.deb")
	tree.run(t, 0, "/usr/bin/dpkg", "-i", "/tmp/fastpull.deb")
	tree.run(t, 0, "/usr/bin/dpkg", "--verify", "fastpull")
	if out := tree.run(t, 0, "/usr/bin/fastpull", "--version"); !strings.Contains(out, "fastpull") {
		t.Errorf("version: %s", out)
	}
	if out := tree.run(t, 0, "/usr/bin/fastpull", "doctor"); !strings.Contains(out, "not tried, since the root directory is not") {
		t.Errorf("doctor in a chroot: %s", out)
	}
	const ref = "127.0.0.1:5000/app:1"
	if !kit.Eventually(time.Minute, func() bool { return tree.try(t, "/usr/bin/fastpull", "tags", "127.0.0.1:5000/app") == nil }) {
		t.Fatal("the registry does not answer")
	}
	if out := tree.run(t, 0, "/usr/bin/fastpull", ref); !strings.Contains(out, ref+"@"+im.Digest.String()) {
		t.Errorf("pull: %s", out)
	}
	if out := tree.run(t, 0, "/usr/bin/fastpull", "images", "-q"); !strings.Contains(out, im.ID.Hex[:12]) {
		t.Errorf("images: %s", out)
	}
	tree.documented(t, "/usr/share/doc/fastpull/copyright", "/usr/share/doc/fastpull/changelog.gz", "/usr/share/zsh/vendor-completions/_fastpull")

	tree.run(t, 0, "/usr/bin/dpkg", "-r", "fastpull")
	for _, made := range []string{"/var/lib/fastpull", "/var/cache/fastpull", "/tmp/fastpull.deb"} { // what the program and the test have made
		if err := os.RemoveAll(filepath.Join(tree.root, made)); err != nil {
			t.Error(err)
		}
	}
	same(t, tree.names(t, true), before)
}

// testLintian has Debian's checks look at a .deb. Errors and warnings are faults; an override
// says why one is not. The program of these tests has its symbols, and that of a release has
// none.
func testLintian(t *testing.T, file string) {
	out := kit.Run(t, need.Program(t, "lintian"), "--no-cfg", "--allow-root", "--fail-on", "none", "--suppress-tags", "unstripped-binary-or-object", file)
	if strings.TrimSpace(out) != "" {
		t.Errorf("lintian says\n%s", out)
	}
}

// testRPM installs an .rpm by rpm in an empty tree, and removes it.
func testRPM(t *testing.T, file string) {
	program := need.Program(t, "rpm")
	tree := newTree(t)
	rpm := func(args ...string) string {
		return kit.Run(t, program, append([]string{"--root", tree.root, "--define", "_dbpath /var/lib/rpm"}, args...)...)
	}
	rpm("--initdb")
	// Directories are those of other packages as a rule, which are not installed here.
	before := tree.names(t, false)
	kit.Run(t, program, "-K", "--nosignature", file)
	rpm("--force-debian", "-i", file) // which says that alien is for users
	rpm("-V", "fastpull")
	for _, document := range []string{"/usr/share/man/man1/fastpull.1.gz", "/usr/share/doc/fastpull/README.md", "/usr/share/doc/fastpull/fastpull.cdx.json"} {
		if out := rpm("-qd", "fastpull"); !strings.Contains(out, document) {
			t.Errorf("rpm does not take %s for a document:\n%s", document, out)
		}
	}
	if out := rpm("-qi", "fastpull"); !strings.Contains(out, packaged) || !strings.Contains(out, "Apache-2.0") || !strings.Contains(out, "localhost") {
		t.Errorf("the package says of itself:\n%s", out)
	}
	if out := tree.run(t, 0, "/usr/bin/fastpull", "version"); !strings.Contains(out, "linux/"+runtime.GOARCH) {
		t.Errorf("version: %s", out)
	}
	tree.documented(t, "/usr/share/licenses/fastpull/LICENSE", "/usr/share/licenses/fastpull/THIRD_PARTY_LICENSES.txt", "/usr/share/zsh/site-functions/_fastpull")
	rpm("--force-debian", "-e", "fastpull")
	same(t, tree.names(t, false), before)
	for _, own := range []string{"/usr/share/doc/fastpull", "/usr/share/licenses/fastpull"} {
		if _, err := os.Lstat(filepath.Join(tree.root, own)); err == nil {
			t.Errorf("left behind: %s", own)
		}
	}
}

// tree is the root of a host.
type tree struct{ root string }

func newTree(t *testing.T) tree {
	t.Helper()
	return tree{t.TempDir()}
}

// mountProc mounts what a host has at /proc.
func (h tree) mountProc(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { kit.UnmountBelow(t, h.root) })
	if err := unix.Mount("proc", filepath.Join(h.root, "proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
}

// command runs a program of the host on it.
func (h tree) command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir, cmd.SysProcAttr = "/", &unix.SysProcAttr{Chroot: h.root}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	return cmd
}

// run runs a program of the host, which ends with that exit code, and returns what it prints.
func (h tree) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := h.command(t, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("%q: %v, want exit code %d\n%s", args, err, code, out)
	}
	return string(out)
}

// try runs a program that may fail.
func (h tree) try(t *testing.T, args ...string) error { return h.command(t, args...).Run() }

func (h tree) copy(t *testing.T, file, to string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	kit.WriteFile(t, filepath.Join(h.root, to), string(data))
}

// names returns the paths of the host, with those of directories or without. Records of what
// was installed are left out.
func (h tree) names(t *testing.T, directories bool) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	err := filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, h.root)
		if d.IsDir() && slices.Contains([]string{"/proc", "/var/lib/dpkg", "/var/lib/rpm", "/var/log"}, name) {
			return filepath.SkipDir
		}
		if directories || !d.IsDir() {
			all[name] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same fails the test for what a package has left on a host, or taken with it.
func same(t *testing.T, after, before map[string]bool) {
	t.Helper()
	for name := range after {
		if !before[name] {
			t.Errorf("left behind: %s", name)
		}
	}
	for name := range before {
		if !after[name] {
			t.Errorf("gone: %s", name)
		}
	}
}

// documented looks for man pages, completions, documents, and more files.
func (h tree) documented(t *testing.T, more ...string) {
	t.Helper()
	for _, page := range []string{"man1/fastpull.1.gz", "man1/fastpull-pull.1.gz", "man1/fastpull-doctor.1.gz", "man7/fastpull-environment.7.gz"} {
		if text := kit.Run(t, "zcat", filepath.Join(h.root, "usr/share/man", page)); !strings.Contains(text, `.TH "FASTPULL`) {
			t.Errorf("%s is no page of a manual: %.200s", page, text)
		}
	}
	for _, path := range append(more, "/usr/share/bash-completion/completions/fastpull", "/usr/share/fish/vendor_completions.d/fastpull.fish",
		"/usr/share/doc/fastpull/README.md", "/usr/share/doc/fastpull/docs/install.md", "/usr/share/doc/fastpull/fastpull.cdx.json") {
		st, err := os.Lstat(filepath.Join(h.root, path))
		if err != nil {
			t.Error(err)
		} else if st.Mode() != 0o644 || st.Size() == 0 || !st.ModTime().Equal(time.Unix(1700000000, 0)) {
			t.Errorf("%s: mode %v, size %d, time %v", path, st.Mode(), st.Size(), st.ModTime())
		}
	}
	script := filepath.Join(h.root, "usr/share/bash-completion/completions/fastpull")
	if out := kit.Run(t, "bash", "-c", `. "$0" && complete -p fastpull`, script); !strings.Contains(out, "__start_fastpull") {
		t.Errorf("completion in bash: %s", out)
	}
}

// ownNetwork moves the test, and the processes that it starts from now on, to a network that
// has nothing but its own loopback device. Other goroutines stay where they are.
func ownNetwork(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // which is not undone: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}
