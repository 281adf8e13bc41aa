//go:build e2e

package kit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// DebianTar returns a minimal Debian as debootstrap installs it, in a tar with extended
// attributes. It is kept in the user's cache directory: only the first test of a machine
// downloads packages, and others wait for it.
func DebianTar(t *testing.T) (archive string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "fastpull-e2e")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(cache, "debian.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	mirror, suite := debianMirror(t)
	kept := filepath.Join(cache, "debian-"+suite+"-"+DebianArch()+".tar")
	if _, err := os.Stat(kept); err == nil {
		return kept
	}
	// Not in TMPDIR, which is often mounted without device nodes.
	dir, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		t.Fatal(err)
	}
	root, made := filepath.Join(dir, "root"), filepath.Join(dir, "tar")
	t.Cleanup(func() {
		UnmountBelow(t, root)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	debootstrap(t, root, suite, mirror)
	Run(t, "tar", "-C", root, "-cf", made, "--numeric-owner", "--format=posix", "--xattrs", "--xattrs-include=*", ".")
	if err := os.Rename(made, kept); err != nil {
		t.Fatal(err)
	}
	return kept
}

// DebianArch returns Debian's name of this machine's architecture.
func DebianArch() string {
	if name, differs := map[string]string{"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}[runtime.GOARCH]; differs {
		return name
	}
	return runtime.GOARCH
}

// debianMirror is where apt gets its packages, if this is a Debian, and else
// where everybody may. It asks apt, which knows both formats of its files.
func debianMirror(t *testing.T) (url, suite string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "apt-get", "indextargets",
		"--format", "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		t.Fatalf("apt-get indextargets: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 4 && f[0] == "Debian" && f[1] == "main" && !strings.Contains(f[2], "-") { // no updates
			return f[3], f[2]
		}
	}
	return "http://deb.debian.org/debian", "stable"
}

// debootstrap installs Debian's smallest set of packages into root.
func debootstrap(t *testing.T, root, suite, mirror string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "debootstrap", "--variant=minbase", suite, root, mirror)
	// It is a shell script, whose children are to go with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debootstrap of %s from %s: %v\n%s", suite, mirror, err, out[max(0, len(out)-2000):])
	}
}
