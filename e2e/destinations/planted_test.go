//go:build e2e

package destinations

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// stranger is a user that plants things where root is about to write.
const stranger = 12345

// writer is a way in which fastpull writes to a path.
type writer struct {
	name string
	// at is what is planted at, below the folder; the program is given a path by it.
	at string
	// args and env are for a folder in which something is planted.
	args func(dir string) []string
	env  func(dir string) []string
	// without says that the program does without the place, and succeeds.
	without bool
	// within says that a folder of the stranger's is as good as another: only files
	// without a name are made in it.
	within bool
}

// plant is something that a stranger makes at a path. Victim is a folder that the stranger may
// not write to, with a file in it and a folder that is empty.
type plant struct {
	name   string
	make   func(path, victim string) error
	folder bool // is one of the stranger's
}

var plants = []plant{
	{name: "LinkToFile", make: func(path, victim string) error { return os.Symlink(victim+"/file", path) }},
	{name: "LinkToFolder", make: func(path, victim string) error { return os.Symlink(victim+"/empty", path) }},
	{name: "LinkToNothing", make: func(path, victim string) error { return os.Symlink(victim+"/new", path) }},
	{name: "RelativeLink", make: func(path, victim string) error {
		rel, err := filepath.Rel(filepath.Dir(path), victim+"/empty")
		return errors.Join(err, os.Symlink(rel, path))
	}},
	{name: "Hardlink", make: func(path, victim string) error { return os.Link(victim+"/file", path) }},
	{name: "FIFO", make: func(path, _ string) error { return unix.Mkfifo(path, 0o666) }},
	{name: "File", make: func(path, _ string) error { return os.WriteFile(path, []byte("planted"), 0o666) }},
	{name: "Folder", folder: true, make: func(path, _ string) error { return os.Mkdir(path, 0o755) }},
}

// TestPlanted has root write where a stranger may write, too, and has planted
// something: nothing that was there before changes, and the program says so.
func TestPlanted(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, 2<<20, 1)}}))
	made := t.TempDir()
	packed, store := filepath.Join(made, "b.tar.gz"), filepath.Join(made, "store")
	kit.Fastpull(t, "bundle", "-o", packed, ref).Expect(t, 0)
	kit.Fastpull(t, "--store", store, ref).Expect(t, 0)

	writers := []writer{
		{name: "Output", at: "out.tar", args: func(dir string) []string { return []string{"-o", dir + "/out.tar", ref} }},
		{name: "List", at: "out.tar.json", args: func(dir string) []string { return []string{"bundle", "-o", dir + "/out.tar", ref} }},
		{name: "Draft", at: "out.tar.fastpull-partial", without: true,
			args: func(dir string) []string { return []string{"bundle", "--layers=keep", "-o", dir + "/out.tar", ref} }},
		{name: "Part", at: "out.tar.part001", args: func(dir string) []string {
			return []string{"bundle", "--split", "1MiB", "-o", dir + "/out.tar", ref}
		}},
		{name: "SecondPart", at: "out.tar.part002", args: func(dir string) []string {
			return []string{"bundle", "--split", "1MiB", "-o", dir + "/out.tar", ref}
		}},
		{name: "OutputFolder", at: "way", within: true, args: func(dir string) []string { return []string{"-o", dir + "/way/out.tar", ref} }},
		{name: "Rootfs", at: "root", args: func(dir string) []string { return []string{"--rootfs", dir + "/root", ref} }},
		{name: "RootfsFolder", at: "way", within: true, args: func(dir string) []string { return []string{"--rootfs", dir + "/way/root", ref} }},
		{name: "Store", at: "store", args: func(dir string) []string { return []string{"--store", dir + "/store", ref} }},
		{name: "StoreFolder", at: "way", within: true, args: func(dir string) []string { return []string{"--store", dir + "/way/store", ref} }},
		{name: "Podman", at: "store", args: func(dir string) []string { return []string{"--podman=" + dir + "/store", ref} }},
		{name: "PodmanFolder", at: "way", within: true, args: func(dir string) []string { return []string{"--podman=" + dir + "/way/store", ref} }},
		{name: "ContainerdRoot", at: "store", args: func(dir string) []string { return []string{"--containerd-root=" + dir + "/store", ref} }},
		{name: "ContainerdRootFolder", at: "way", within: true, args: func(dir string) []string { return []string{"--containerd-root=" + dir + "/way/store", ref} }},
		{name: "Line", at: "lines", args: func(dir string) []string { return []string{"--null", "--report", dir + "/lines", ref} }},
		{name: "Report", at: "report", args: func(dir string) []string { return []string{"doctor", "--report", dir + "/report"} }},
		{name: "TempDir", at: "temp", within: true, args: func(dir string) []string { return []string{"verify", "--temp-dir", dir + "/temp", packed} }},
		{name: "Cache", at: "cache", without: true, within: true, args: func(dir string) []string { return []string{"--rootfs", t.TempDir() + "/root", ref} },
			env: func(dir string) []string { return []string{"XDG_CACHE_HOME=" + dir + "/cache"} }},
		{name: "CacheFolder", at: "fastpull", without: true, within: true, args: func(dir string) []string { return []string{"--rootfs", t.TempDir() + "/root", ref} },
			env: func(dir string) []string { return []string{"XDG_CACHE_HOME=" + dir} }},
		{name: "Login", at: "config.json", args: func(string) []string { return []string{"login", reg.Addr, "-u", "me", "--password-stdin"} },
			env: func(dir string) []string { return []string{"DOCKER_CONFIG=" + dir} }},
		{name: "LoginFolder", at: "docker", within: true, args: func(string) []string { return []string{"login", reg.Addr, "-u", "me", "--password-stdin"} },
			env: func(dir string) []string { return []string{"DOCKER_CONFIG=" + dir + "/docker"} }},
		{name: "Mount", at: "mnt", within: true, args: func(dir string) []string { return []string{"mount", "--store", store, ref, dir + "/mnt"} }},
	}
	for _, w := range writers {
		t.Run(w.name, func(t *testing.T) {
			for _, p := range plants {
				for kind, open := range map[string]func(dir string) error{
					"Sticky":     func(dir string) error { return os.Chmod(dir, 0o777|fs.ModeSticky) },
					"Stranger's": func(dir string) error { return os.Chown(dir, stranger, stranger) },
				} {
					t.Run(p.name+"/"+kind, func(t *testing.T) { w.try(t, p, open) })
				}
			}
		})
	}
}

// try has something planted in a folder that was opened for a stranger.
func (w writer) try(t *testing.T, p plant, open func(dir string) error) {
	victim, dir := t.TempDir(), t.TempDir()
	kit.WriteFile(t, filepath.Join(victim, "file"), `{"auths":{}}`)
	path := filepath.Join(dir, w.at)
	if err := errors.Join(os.Mkdir(victim+"/empty", 0o755), p.make(path, victim), open(dir)); err != nil {
		t.Fatal(err)
	}
	if p.name != "Hardlink" { // which is root's file, by another name
		if err := os.Lchown(path, stranger, stranger); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, at := range []string{path, victim, victim + "/empty"} {
			_ = unix.Unmount(at, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	})
	before, was := kit.ReadTree(t, victim, kit.TreeOptions{}), lstat(t, path)
	var env []string
	if w.env != nil {
		env = w.env(dir)
	}
	u := kit.NewUser(t, env...)
	u.Stdin = "secret"
	res := u.Fastpull(t, w.args(dir)...)
	good := w.without || w.within && p.folder
	if good != (res.Code == 0) {
		t.Errorf("exit code %d\n%s", res.Code, res.Stderr)
	}
	kit.ExpectSame(t, "the victim has changed", kit.CompareNodes(kit.ReadTree(t, victim, kit.TreeOptions{}), before))
	if is := lstat(t, path); !good && (is.Dev != was.Dev || is.Ino != was.Ino || is.Size != was.Size || is.Mtim != was.Mtim) {
		t.Errorf("what was planted has been changed: %+v, was %+v", is, was)
	}
	if _, err := os.Lstat(victim + "/new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nothing was followed: %v", err)
	}
}

func lstat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestPlantedSwap has a stranger swap a folder for a link to the victim's, and back,
// all the time while root writes below it.
func TestPlantedSwap(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, 2<<20, 1)}}))
	for name, args := range map[string][]string{
		"Output": {"bundle", "-o"}, "Keep": {"bundle", "--layers=keep", "-o"}, "Rootfs": {"--rootfs"}, "Store": {"--store"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			victim, dir := t.TempDir(), t.TempDir()
			way, link := filepath.Join(dir, "way"), filepath.Join(dir, "link")
			if err := errors.Join(os.Mkdir(way, 0o755), os.Symlink(victim, link), os.Lchown(link, stranger, 0), os.Chown(way, stranger, 0), os.Chown(dir, stranger, 0)); err != nil {
				t.Fatal(err)
			}
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					default:
						_ = unix.Renameat2(unix.AT_FDCWD, way, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
						time.Sleep(50 * time.Microsecond)
					}
				}
			}()
			good := 0
			for i := range 12 {
				if res := kit.Fastpull(t, append(args, fmt.Sprintf("%s/%d", way, i), ref)...); res.Code == 0 {
					good++
				}
			}
			close(stop)
			<-stopped
			if got := kit.Names(t, victim); len(got) > 0 {
				t.Errorf("the victim has got %q", got)
			}
			t.Logf("%d of 12 were written, the others refused", good)
		})
	}
}

// TestPlantedStaging has a stranger move away whatever root makes in its folder, and put
// a link to the victim's folder into its place. That has all that fastpull could look
// for there.
func TestPlantedStaging(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, 2<<20, 1)}}))
	for name, args := range map[string][]string{"Output": {"bundle", "-o"}, "Keep": {"bundle", "--layers=keep", "-o"}, "Rootfs": {"--rootfs"}, "Store": {"--store"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			victim, dir, aside := t.TempDir(), t.TempDir(), t.TempDir()
			for _, file := range []string{"0/etc/passwd", "1/file", "root/file", "overlay2/l/file", "fastpull/run/dead/file", "fastpull/pending/note", "image/overlay2/layerdb/sha256/file"} {
				kit.WriteFile(t, filepath.Join(victim, file), "the victim's")
			}
			if err := os.Chown(dir, stranger, 0); err != nil {
				t.Fatal(err)
			}
			before := kit.ReadTree(t, victim, kit.TreeOptions{})
			stop, stopped := make(chan struct{}), make(chan struct{})
			moved := 0
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Microsecond):
					}
					entries, _ := os.ReadDir(dir)
					for _, e := range entries {
						path := filepath.Join(dir, e.Name())
						if e.Type() == fs.ModeSymlink || os.Rename(path, filepath.Join(aside, fmt.Sprint(moved))) != nil {
							continue
						}
						moved++
						_ = errors.Join(os.Symlink(victim, path), os.Lchown(path, stranger, 0))
					}
				}
			}()
			for i := range 6 {
				kit.Fastpull(t, append(args, fmt.Sprintf("%s/%d", dir, i), ref)...)
			}
			close(stop)
			<-stopped
			kit.ExpectSame(t, "the victim has changed", kit.CompareNodes(kit.ReadTree(t, victim, kit.TreeOptions{}), before))
			if moved == 0 {
				t.Error("there was nothing to move")
			}
		})
	}
}
