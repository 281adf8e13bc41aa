package pull

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

func rootfsOptions(dir string, refs ...registry.Reference) to {
	return to{Kind: "rootfs", Path: dir, Options: Options{References: refs}}
}

// rootfsLayers apply over each other: deletions, an opaque folder, a file in the
// place of a folder, and the other way round.
func rootfsLayers(t *testing.T) []v1.Layer {
	t.Helper()
	return []v1.Layer{
		layer(t, file{name: "etc/", typ: tar.TypeDir, mode: 0o750}, file{name: "etc/a", content: "low"}, file{name: "etc/gone"},
			file{name: "opaque/", typ: tar.TypeDir}, file{name: "opaque/old"}, file{name: "own/", typ: tar.TypeDir, mode: 0o700}, file{name: "swap/inside"}, file{name: "turn"}),
		layer(t, file{name: "etc/a", content: "high"}, file{name: "etc/.wh.gone"},
			file{name: "opaque/.wh..wh..opq"}, file{name: "opaque/new"}, file{name: "swap", content: "a file"}, file{name: "turn/inside"}),
		noise(t, "big", 200<<10),
	}
}

func TestRootfs(t *testing.T) {
	s := serve(t)
	layers := rootfsLayers(t)
	ref := s.push(t, "img:tag", append(layers, layers[2])...) // one of them twice
	parent := t.TempDir()
	target := filepath.Join(parent, "root")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for name, prepare := range map[string]func() (string, error){
		"new":       func() (string, error) { return target, nil },
		"empty":     func() (string, error) { return target, os.Mkdir(target, 0o700) },
		"a symlink": func() (string, error) { return link, os.Mkdir(target, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			defer os.RemoveAll(target)
			dir, err := prepare()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pull(t, t.Context(), rootfsOptions(dir, ref)); err != nil {
				t.Fatal(err)
			}
			var got []string
			err = filepath.WalkDir(target, func(p string, _ os.DirEntry, err error) error {
				rel, _ := filepath.Rel(target, p)
				got = append(got, rel)
				return err
			})
			if want := ". big etc etc/a opaque opaque/new own swap turn turn/inside"; err != nil || strings.Join(got, " ") != want {
				t.Errorf("files: %s, want %s; %v", strings.Join(got, " "), want, err)
			}
			if a, _ := os.ReadFile(target + "/etc/a"); string(a) != "high" {
				t.Errorf("etc/a is %q", a)
			}
			for path, want := range map[string]os.FileMode{"": 0o755, "own": 0o700} {
				if st, err := os.Stat(filepath.Join(target, path)); err != nil || st.Mode().Perm() != want {
					t.Errorf("%s has mode %v, %v", path, st.Mode(), err)
				}
			}
			if got := entries(t, parent); got != "root" {
				t.Errorf("beside it: %s", got)
			}
		})
	}
}

// TestRootfsFails: no half of a root is left, whatever KeepGoing says.
func TestRootfsFails(t *testing.T) {
	s := serve(t)
	layers := rootfsLayers(t)
	ref := s.push(t, "img:tag", layers...)
	parent := t.TempDir()
	for _, keepGoing := range []bool{false, true} {
		s.spoil = flip(always, layers[2])
		o := rootfsOptions(filepath.Join(parent, "root"), ref)
		o.KeepGoing = keepGoing
		if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), blobOf(layers[2])) {
			t.Errorf("error: %v", err)
		}
		if got := entries(t, parent); got != "" {
			t.Errorf("left behind: %s", got)
		}
	}
	s.spoil = flip(1, layers...)
	s.reset()
	if _, err := pull(t, t.Context(), rootfsOptions(filepath.Join(parent, "root"), ref)); err != nil {
		t.Errorf("each layer damaged once: %v", err)
	}
	if n := s.blobs(); n != 7 { // and the config
		t.Errorf("%d blobs were fetched", n)
	}
}

// TestRootfsRefuses what cannot become the root, before anything is fetched.
func TestRootfsRefuses(t *testing.T) {
	s := serve(t)
	ref := s.push(t, "img:tag", layer(t))
	dir := t.TempDir()
	for _, d := range []string{"full", "mount"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount := filepath.Join(dir, "mount")
	if err := errors.Join(os.WriteFile(dir+"/full/file", nil, 0o600), unix.Mount("tmpfs", mount, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(mount, unix.MNT_DETACH) })
	for _, name := range []string{"full", "full/file", "mount"} {
		_, err := pull(t, t.Context(), rootfsOptions(filepath.Join(dir, name), ref))
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pull(t, t.Context(), rootfsOptions(dir+"/new", ref, s.ref(t, "img:other"))); fault.KindOf(err) != fault.Usage {
		t.Errorf("two images: %v", err)
	}
	if _, err := pull(t, t.Context(), rootfsOptions(dir+"/none/new", ref)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if got := entries(t, dir); got != "full mount" || s.got("manifests") != 0 {
		t.Errorf("in the folder: %s; %d requests", got, s.got("manifests"))
	}

	// A mount of the same file system shows only at the end.
	bind := filepath.Join(dir, "bind")
	if err := errors.Join(os.Mkdir(bind, 0o755), unix.Mount(bind, bind, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(bind, unix.MNT_DETACH) })
	if _, err := pull(t, t.Context(), rootfsOptions(bind, ref)); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "mount point") {
		t.Errorf("a bind mount: %v", err)
	}
	if got := entries(t, dir); got != "bind full mount" {
		t.Errorf("in the folder: %s", got)
	}
}
