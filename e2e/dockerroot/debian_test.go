//go:build e2e

package dockerroot

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/e2e/kit"
)

// debianTar is a minimal Debian as debootstrap installs it, in a tar with
// extended attributes. It is kept in the user's cache folder: only the first
// run downloads packages.
func debianTar(t *testing.T, _ string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "fastpull-e2e")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	mirror, suite := debianMirror(t)
	kept := filepath.Join(cache, "debian-"+suite+"-"+debianArch()+".tar")
	if _, err := os.Stat(kept); err == nil {
		return kept
	}
	// Not in TMPDIR, which is often mounted without device nodes.
	dir, err := os.MkdirTemp(cache, "making-")
	if err != nil {
		t.Fatal(err)
	}
	root, archive := filepath.Join(dir, "root"), filepath.Join(dir, "tar")
	t.Cleanup(func() {
		kit.UnmountBelow(t, root)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	debootstrap(t, root, suite, mirror)
	runTar(t, append([]string{"-C", root, "-cf", archive, "--numeric-owner"}, append(paxWithXattrs, ".")...)...)
	if err := os.Rename(archive, kept); err != nil {
		t.Fatal(err)
	}
	return kept
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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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
