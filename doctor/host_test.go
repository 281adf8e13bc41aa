package doctor

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/overlay"
)

// expect wants a finding to have a level and all the words, also in its way out.
func expect(t *testing.T, name string, f Finding, level Level, words ...string) {
	t.Helper()
	all := f.Text + "\n" + strings.Join(f.Fix, "\n")
	if f.Level != level {
		t.Errorf("%s: %s, want %s: %s", name, f.Level, level, all)
	}
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("%s: does not say %q: %s", name, w, all)
		}
	}
}

func TestKernel(t *testing.T) {
	for _, tc := range []struct {
		release string
		level   Level
		words   string
		openat2 bool
	}{
		{"3.10.0-1160.el7.x86_64", Warning, "one lower layer only", false},
		{"4.19.90-2201.4.0.0135.up1.uel20.aarch64", OK, "5.11", false},
		{"5.10.0", OK, "5.11", true},
		{"6.1.0-18-amd64", OK, "Linux 6.1.0-18-amd64 on arm64", true},
		{"what", Unknown, "no version", false},
	} {
		f := kernelOf(tc.release, "arm64")
		expect(t, tc.release, f, tc.level, tc.words)
		if f.Facts["openat2"] != tc.openat2 {
			t.Errorf("%s: openat2: %v", tc.release, f.Facts["openat2"])
		}
	}
	expect(t, "this one", kernel(), OK, "Linux")
}

func TestSpace(t *testing.T) {
	for _, tc := range []struct {
		name        string
		free, total int64
		inodes, of  uint64
		level       Level
		words       string
	}{
		{"plenty", 1 << 40, 1 << 41, 1 << 20, 1 << 21, OK, "free, 1048576 of 2097152 inodes"},
		{"few bytes", 2 << 30, 1 << 41, 1 << 20, 1 << 21, Warning, "may not fit"},
		{"no bytes", 1 << 20, 1 << 41, 1 << 20, 1 << 21, Problem, "too little"},
		{"few inodes", 1 << 40, 1 << 41, 50_000, 1 << 21, Warning, "may not fit"},
		{"no inodes", 1 << 40, 1 << 41, 0, 1 << 21, Problem, "too little"},
		{"inodes as needed", 1 << 40, 1 << 41, 0, 0, OK, "free"},
		{"no size", 0, 0, 0, 0, OK, "no size of its own"},
	} {
		expect(t, tc.name, spaceOf("store", tc.free, tc.total, tc.inodes, tc.of), tc.level, tc.words)
	}
}

func TestJudgeFileSystem(t *testing.T) {
	f := Finding{Level: OK}
	f.judge([]overlay.Need{{What: "files"}, {What: "d_type"}}, "ext4")
	expect(t, "fine", f, OK, "ext4, tried: files, d_type")
	f.judge([]overlay.Need{{What: "files"}, {What: "d_type", Lacking: true}}, "xfs")
	expect(t, "lacking", f, Problem, "xfs, which lacks what layers need: d_type", "ftype=1")
}

// TestDiskHangs has the look at the first disk hang. The others are judged as ever.
func TestDiskHangs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		e := &exam{report: &Report{}}
		e.judge(t.Context(), []disk{
			{what: "dead", dir: "/dead", spare: true}, {what: "store", dir: filepath.Join(dir, "a/b"), fresh: true}, {what: "other", dir: dir},
		}, privilege.Current(), func(dir string) uint64 {
			if dir == "/dead" {
				<-hang
			}
			return deviceOf(dir)
		})
		byName := map[string]Finding{}
		for _, f := range e.report.Findings {
			byName[f.What] = f
		}
		expect(t, "the dead one", byName["dead"], Warning, "does not answer in 15s")
		if f := byName["space of store"]; !strings.Contains(f.Text, "free") {
			t.Errorf("the next one: %+v", e.report.Findings)
		}
		expect(t, "the same again", byName["other"], OK, "the same file system as that of the store")
	})
}

func TestClock(t *testing.T) {
	if _, wrong := clock(time.Now()); wrong {
		t.Error("now is wrong")
	}
	f, wrong := clock(time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC))
	if !wrong {
		t.Error("1970 is right")
	}
	expect(t, "1970", f, Problem, "1970-01-01T00:05:00Z", "timedatectl")
}

func TestUserNamespaces(t *testing.T) {
	f := userNamespaces(privilege.Current())
	if f.Level != OK && f.Level != Warning || f.Text == "" {
		t.Errorf("%+v", f)
	}
}

func TestNoEngine(t *testing.T) {
	silent := func(why error) error {
		return fault.WithHint(errors.Join(daemon.ErrUnavailable, why), "check that dockerd runs")
	}
	dial := func(why error) error { return silent(&net.OpError{Op: "dial", Net: "unix", Err: why}) }
	for _, tc := range []struct {
		name  string
		err   error
		named bool
		level Level
		words []string
	}{
		{"none", dial(fs.ErrNotExist), false, OK, []string{"--store"}},
		{"none, and named", dial(fs.ErrNotExist), true, Problem, []string{"DOCKER_HOST names it"}},
		{"stopped", dial(syscall.ECONNREFUSED), false, Warning, []string{"does not run", "systemctl start docker"}},
		{"hangs", silent(errors.New("no answer within 5s")), false, Problem, []string{"dockerd hangs", "journalctl -u docker"}},
		{"hangs, and named", silent(errors.New("no answer within 5s")), true, Problem, []string{"dockerd hangs"}},
		{"no way", dial(syscall.EHOSTUNREACH), true, Problem, []string{"DOCKER_HOST names it"}},
		{"denied", fault.Wrap(fault.Denied, fs.ErrPermission), false, Unknown, []string{"may not be used", "usermod -aG docker"}},
		{"denied, and named", fault.Wrap(fault.Denied, fs.ErrPermission), true, Unknown, []string{"may not be used"}},
		{"too old", fault.WithHint(errors.New("API 1.30"), "fastpull needs Docker 19.03 or later"), false, Problem, []string{"19.03"}},
		{"a wrong address", fault.New(fault.Usage, "not an address"), true, Problem, []string{"not an address"}},
	} {
		expect(t, tc.name, (&exam{}).noEngine(tc.err, tc.named), tc.level, tc.words...)
	}
}

func TestEngineOf(t *testing.T) {
	f := daemon.Facts{Version: "19.03.15", API: "1.40", Driver: "overlay2", Backing: "extfs", Root: "/data"}
	expect(t, "fine", engineOf("unix:///s", f), OK, "19.03.15 answers at unix:///s: API 1.40, storage driver overlay2 on extfs, data-root /data", "live-restore is off")
	f.LiveRestore = true
	expect(t, "live-restore", engineOf("unix:///s", f), OK, "survive")
	f.Driver = "devicemapper"
	expect(t, "old driver", engineOf("unix:///s", f), Warning, "overlay2 is what to use")
	f.NoTypes = true
	expect(t, "no types", engineOf("unix:///s", f), Problem, "d_type")
}

// TestDestinations tries them where they work, and where a file is in their way.
func TestDestinations(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none"))
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	look := func(store string) map[string]Finding {
		e := &exam{Options: Options{Destinations: map[string]string{"store": store}}, report: &Report{}}
		destinations(t.Context(), e)
		byName := map[string]Finding{}
		for _, f := range e.report.Findings {
			byName[f.What] = f
		}
		return byName
	}
	store := filepath.Join(t.TempDir(), "a/store")
	found := look(store)
	level := OK
	if os.Geteuid() != 0 {
		level = Warning // owners and devices are left out
	}
	expect(t, "no Engine", found["Docker Engine (--load)"], Unknown, "none that can be used answers")
	expect(t, "store", found["store (--store)"], level, store, "could be made")
	expect(t, "bundle", found["bundle (-o)"], OK)
	expect(t, "directory", found["directory (--rootfs)"], level)
	if _, err := os.Lstat(filepath.Dir(store)); !os.IsNotExist(err) {
		t.Errorf("the store was made: %v", err)
	}
	t.Setenv("TMPDIR", file)
	found = look(file)
	expect(t, "a file", found["store (--store)"], Problem, "not a directory")
	expect(t, "a file", found["bundle (-o)"], Warning, "cannot be written")
}
