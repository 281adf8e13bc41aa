package safepath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// stranger is a user that plants things.
const stranger = 12345

// kind is a kind of directory that a planted thing is in.
type kind struct {
	name    string
	uid     int
	mode    fs.FileMode
	exposed bool
	keeps   bool
}

var kinds = []kind{
	{"of root alone", 0, 0o755, false, true},
	{"sticky, for all", 0, 0o777 | fs.ModeSticky, true, true},
	{"for all", 0, 0o777, true, false},
	{"of a group", 0, 0o775, true, false},
	{"of a stranger", stranger, 0o755, true, false},
	{"of a stranger, sticky", stranger, 0o755 | fs.ModeSticky, true, false},
}

func asRoot(t *testing.T) {
	t.Helper()
	need.Root(t, "make things of another user")
}

// must is for what a test prepares.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// in makes a directory of a kind, beside one called other.
func in(t *testing.T, k kind) (dir, other string) {
	t.Helper()
	base := t.TempDir()
	dir, other = filepath.Join(base, "dir"), filepath.Join(base, "other")
	must(t, os.Mkdir(dir, 0o755), os.Mkdir(other, 0o755), os.Chown(dir, k.uid, 0), os.Chmod(dir, k.mode))
	return dir, other
}

// link makes a symbolic link of a user.
func link(t *testing.T, target, name string, uid int) {
	t.Helper()
	must(t, os.Symlink(target, name), os.Lchown(name, uid, 0))
}

// TestLinks has symbolic links of each user in each kind of directory, as the last
// name of a path and in its middle, to something and to nothing.
func TestLinks(t *testing.T) {
	asRoot(t)
	for _, k := range kinds {
		for _, uid := range []int{0, stranger} {
			for _, absolute := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/user %d/%v", k.name, uid, absolute), func(t *testing.T) {
					dir, other := in(t, k)
					target := "../other"
					if absolute {
						target = other
					}
					link(t, target, filepath.Join(dir, "folder"), uid)
					link(t, target+"/file", filepath.Join(dir, "file"), uid)
					wanted := uid == 0 || !k.exposed

					d, err := Open(filepath.Join(dir, "folder"))
					check(t, "Open", err, wanted)
					if err == nil {
						if d.Name() != other {
							t.Errorf("Open led to %s", d.Name())
						}
						d.Close()
					}
					d, err = Make(filepath.Join(dir, "folder/new/deep"), 0o700)
					check(t, "Make", err, wanted)
					if err == nil {
						if d.Name() != other+"/new/deep" || len(d.Made()) != 2 || d.Exposed() {
							t.Errorf("Make led to %s, and made %q", d.Name(), d.Made())
						}
						d.Close()
					}
					for _, name := range []string{"file", "folder/file"} {
						p, err := Find(filepath.Join(dir, name))
						check(t, "Find "+name, err, wanted)
						if err == nil {
							if p.Name() != other || p.Base != "file" || p.Type != 0 {
								t.Errorf("Find %s led to %s/%s", name, p.Name(), p.Base)
							}
							p.Close()
						}
					}
				})
			}
		}
	}
}

// check compares an error with what is wanted: none, or a refusal with a hint.
func check(t *testing.T, what string, err error, wanted bool) {
	t.Helper()
	switch {
	case wanted && err != nil:
		t.Errorf("%s: %v", what, err)
	case !wanted && (fault.KindOf(err) != fault.Denied || fault.HintOf(err) == ""):
		t.Errorf("%s was not refused: %v (%s)", what, err, fault.HintOf(err))
	}
}

// TestReplaceable has things of each user in the place of what is to be written.
func TestReplaceable(t *testing.T) {
	asRoot(t)
	things := map[string]func(name, other string) error{
		"file":      func(name, _ string) error { return os.WriteFile(name, nil, 0o600) },
		"directory": func(name, _ string) error { return os.Mkdir(name, 0o755) },
		"FIFO":      func(name, _ string) error { return unix.Mkfifo(name, 0o600) },
		"device":    func(name, _ string) error { return unix.Mknod(name, unix.S_IFCHR|0o600, 0x0103) },
		"hardlink": func(name, other string) error {
			return errors.Join(os.WriteFile(other+"/secret", nil, 0o600), os.Link(other+"/secret", name))
		},
	}
	for _, k := range kinds {
		for what, make := range things {
			for _, uid := range []int{0, stranger} {
				t.Run(fmt.Sprintf("%s/%s of user %d", k.name, what, uid), func(t *testing.T) {
					dir, other := in(t, k)
					name := filepath.Join(dir, "name")
					must(t, make(name, other), os.Lchown(name, uid, 0))
					wanted := !k.exposed || uid == 0 && what != "hardlink"
					p, err := Find(name)
					check(t, "Find", err, wanted)
					if err == nil {
						p.Close()
					}
					d, err := Open(dir)
					if err != nil {
						t.Fatal(err)
					}
					defer d.Close()
					check(t, "Replaceable", d.Replaceable("name"), wanted)
					check(t, "of nothing", d.Replaceable("none"), true)
				})
			}
		}
	}
}

// TestPath: a path may be used by its names where no stranger can change one, and
// else by the descriptor.
func TestPath(t *testing.T) {
	asRoot(t)
	for _, k := range kinds {
		for _, uid := range []int{0, stranger} {
			dir, _ := in(t, k)
			sub := filepath.Join(dir, "sub")
			must(t, os.Mkdir(sub, 0o755), os.Chown(sub, uid, 0))
			d, err := Open(sub)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			path, err := d.Path()
			if err != nil {
				t.Fatal(err)
			}
			if plain := path == sub; plain != (k.keeps && (uid == 0 || !k.exposed)) {
				t.Errorf("%s, a directory of user %d: %s", k.name, uid, path)
			}
			must(t, os.Rename(sub, sub+"-aside"), os.Mkdir(sub, 0o755))
			if path != sub {
				must(t, os.WriteFile(path+"/file", nil, 0o600))
				if _, err := os.Stat(sub + "-aside/file"); err != nil {
					t.Errorf("%s: the path led to another directory: %v", k.name, err)
				}
			}
			parent, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer parent.Close()
			if parent.Exposed() != k.exposed || parent.ProtectsNames() != k.keeps || (parent.Own() == nil) == k.exposed {
				t.Errorf("%s: exposed %v, keeps %v, own %v", k.name, parent.Exposed(), parent.ProtectsNames(), parent.Own())
			}
		}
	}
}

// TestOddPaths has the ways to write a path that are not a row of names.
func TestOddPaths(t *testing.T) {
	base := t.TempDir()
	must(t, os.MkdirAll(base+"/a/b", 0o755), os.Symlink("a/b", base+"/l"), os.Symlink("loop", base+"/loop"), os.WriteFile(base+"/file", nil, 0o600))
	t.Chdir(base + "/a")
	for name, want := range map[string]string{
		".": base + "/a", "..": base, "b/..": base + "/a", "../l": base + "/a/b", "../l/..": base + "/a", "./b/": base + "/a/b",
		base + "//l/./../b": base + "/a/b", "/": "/", "/..": "/",
	} {
		d, err := Open(name)
		if err != nil || d.Name() != want {
			t.Errorf("Open %s: %+v, %v; want %s", name, d, err, want)
			continue
		}
		d.Close()
	}
	for name, want := range map[string]string{
		".": base + "/a", "..": base, "b/..": base + "/a", "x": base + "/a/x", "b/": base + "/a/b", "../l": base + "/a/b", "../l/../y": base + "/y",
	} {
		p, err := Find(name)
		if err != nil || p.Join(p.Base) != want {
			t.Errorf("Find %s: %+v, %v; want %s", name, p, err, want)
			continue
		}
		p.Close()
	}
	for name, want := range map[string]error{
		"none/x": fs.ErrNotExist, "../loop/x": unix.ELOOP, "../loop": unix.ELOOP, "../file/x": unix.ENOTDIR, "/": nil, base + "/" + strings.Repeat("n", 256): unix.ENAMETOOLONG,
	} {
		if p, err := Find(name); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("Find %s: %+v, %v; want %v", name, p, err, want)
		}
	}
}

// TestProc has names in /proc that stand for open files and directories.
func TestProc(t *testing.T) {
	base := t.TempDir()
	must(t, os.WriteFile(base+"/file", nil, 0o600))
	file, err := os.Open(base + "/file")
	must(t, err)
	defer file.Close()
	folder, err := os.Open(base)
	must(t, err)
	defer folder.Close()
	in, out, err := os.Pipe()
	must(t, err)
	defer in.Close()
	defer out.Close()
	dev := func(f *os.File) string { return fmt.Sprintf("/dev/fd/%d", f.Fd()) }

	p, err := Find(dev(file))
	if err != nil || p.Join(p.Base) != base+"/file" || p.Type != unix.S_IFREG {
		t.Errorf("a file: %+v, %v", p, err)
	} else {
		p.Close()
	}
	if p, err = Find(dev(folder) + "/new"); err != nil || p.Join(p.Base) != base+"/new" {
		t.Errorf("a name in a directory: %+v, %v", p, err)
	} else if path, err := p.Path(); err != nil || !strings.HasPrefix(path, "/proc/self/fd/") {
		t.Errorf("its path: %s, %v", path, err)
	} else {
		p.Close()
	}
	if p, err = Find(dev(out)); err != nil || p.Type != unix.S_IFIFO {
		t.Errorf("a pipe: %+v, %v", p, err)
	} else {
		p.Close()
	}
	must(t, os.Remove(base+"/file"), os.WriteFile(base+"/file", nil, 0o600))
	if p, err = Find(dev(file)); err == nil {
		t.Errorf("a file that was removed: %+v", p)
	}
}

// TestMakeable looks at places without making anything.
func TestMakeable(t *testing.T) {
	asRoot(t)
	dir, other := in(t, kind{uid: stranger, mode: 0o777})
	link(t, other, filepath.Join(dir, "planted"), stranger)
	for name, good := range map[string]bool{"new": true, "missing/new": true, ".": true, "planted": false, "planted/new": false} {
		if err := Makeable(filepath.Join(dir, name)); (err == nil) != good || err != nil && fault.KindOf(err) != fault.Denied {
			t.Errorf("%s: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

// TestSudo: the user of sudo is as good as root, but only for root.
func TestSudo(t *testing.T) {
	asRoot(t)
	dir, other := in(t, kind{uid: stranger, mode: 0o755})
	link(t, other, filepath.Join(dir, "folder"), stranger)
	t.Setenv("SUDO_UID", fmt.Sprint(stranger))
	d, err := Open(filepath.Join(dir, "folder"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if path, err := d.Path(); path != other {
		t.Errorf("Path: %s, %v", path, err)
	}
	if user := (trust{euid: 1, sudo: 0}); user.user(stranger) {
		t.Error("a stranger is trusted")
	}
}

// TestSwap has a stranger put a link into the place of a directory and back all the
// time, while files are made in it. None of them lands where the link leads.
func TestSwap(t *testing.T) {
	asRoot(t)
	dir, other := in(t, kind{uid: stranger, mode: 0o777})
	way, planted := filepath.Join(dir, "way"), filepath.Join(dir, "planted")
	must(t, os.Mkdir(way, 0o777), os.Chown(way, stranger, 0))
	link(t, other, planted, stranger)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, way, unix.AT_FDCWD, planted, unix.RENAME_EXCHANGE)
			}
		}
	}()
	made, refused := 0, 0
	for i := range 2000 {
		p, err := Find(filepath.Join(way, fmt.Sprint(i)))
		if err != nil {
			if fault.KindOf(err) != fault.Denied {
				t.Fatal(err)
			}
			refused++
			continue
		}
		f, err := p.OpenFile(p.Base, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		must(t, err, f.Close(), p.Close())
		made++
	}
	close(stop)
	<-done
	if made == 0 || refused == 0 {
		t.Errorf("%d were made and %d refused: nothing was tested", made, refused)
	}
	if entries, err := os.ReadDir(other); err != nil || len(entries) > 0 {
		t.Errorf("%d files landed behind the link, %v", len(entries), err)
	}
}
