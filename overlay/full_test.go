package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/need"
)

// smallDisk is a file system that is soon full, until the end of the test.
func smallDisk(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m,nr_inodes=300,mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillBlocks leaves no block free of the file system at dir.
func fillBlocks(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// fillInodes leaves no inode free.
func fillInodes(t *testing.T, dir string) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	if err := os.Mkdir(filler, 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil; i++ {
		err = os.Symlink("x", filepath.Join(filler, fmt.Sprint(i)))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// TestFull removes from a store on a file system without a free block or inode, on which
// nothing can be made.
func TestFull(t *testing.T) {
	need.Time(t, "full disks")
	for name, fill := range map[string]func(*testing.T, string){"no space": fillBlocks, "no inodes": fillInodes} {
		t.Run(name, func(t *testing.T) {
			remove := func(name string, force bool) func(*testing.T, *Store, *image.Image) (Removal, error) {
				return func(t *testing.T, s *Store, _ *image.Image) (Removal, error) {
					return s.Remove(t.Context(), name, RemoveOptions{Force: force})
				}
			}
			for _, tc := range []struct {
				name string
				act  func(t *testing.T, s *Store, a *image.Image) (Removal, error)
			}{
				{"by name", remove("a:1", false)},
				{"by ID", func(t *testing.T, s *Store, a *image.Image) (Removal, error) {
					_, err := s.Remove(t.Context(), "a:1", RemoveOptions{})
					if hint := fault.HintOf(err); !errors.Is(err, unix.ENOSPC) || !strings.Contains(hint, "--force") {
						t.Errorf("one name of two: %v, hint %q", err, hint)
					}
					return s.Remove(t.Context(), a.ID.Encoded()[:12], RemoveOptions{Force: true})
				}},
				{"prune", func(t *testing.T, s *Store, _ *image.Image) (Removal, error) {
					p, err := Prune(t.Context(), s.dir, PruneOptions{Untagged: true})
					return p.Removal, err
				}},
			} {
				t.Run(tc.name, func(t *testing.T) {
					dir := smallDisk(t)
					made, err := Open(t.Context(), dir, Options{NoSync: true})
					if err != nil {
						t.Fatal(err)
					}
					a, b := twoImages(t, made)
					switch tc.name {
					case "by ID":
						record(t, made, a, "c:1")
					case "prune":
						if err := made.putNames(names{map[string]map[string]digest.Digest{"b": {"b:1": b.ID}}}); err != nil {
							t.Fatal(err)
						}
					}
					made.Close()
					fill(t, dir)
					if err := os.WriteFile(filepath.Join(dir, "new"), []byte("x"), 0o600); !errors.Is(err, unix.ENOSPC) {
						t.Fatalf("there is space: %v", err)
					}
					s, err := OpenToRemove(t.Context(), dir)
					if err != nil {
						t.Fatal(err)
					}
					r, err := tc.act(t, s, a)
					if err := errors.Join(err, s.Close()); err != nil {
						t.Fatal(err)
					}
					if len(r.Deleted) != 1 || len(r.Layers) != 2 || r.Freed < 8<<10 {
						t.Errorf("removed: %+v", r)
					}
					v, err := s.Verify(t.Context(), VerifyOptions{})
					if err != nil || len(v.Damages) > 0 {
						t.Errorf("verify: %+v %v", v, err)
					}
					if have := len(s.Chain(b.Layers)); have != 2 {
						t.Errorf("the other image has %d layers", have)
					}
					if list, _ := os.ReadDir(s.path("fastpull/pending")); len(list) > 0 {
						t.Errorf("notes are left: %v", list)
					}
					if list, _ := os.ReadDir(s.path("fastpull/run")); len(list) > 0 {
						t.Errorf("folders of processes are left: %v", list)
					}
				})
			}
		})
	}
}

// TestFullStaged removes what is staged on a file system on which nothing can be made.
func TestFullStaged(t *testing.T) {
	for name, fill := range map[string]func(*testing.T, string){"no space": fillBlocks, "no inodes": fillInodes} {
		t.Run(name, func(t *testing.T) {
			w := stageIn(t, smallDisk(t))
			fill(t, w.dir)
			if err := os.WriteFile(filepath.Join(w.dir, "new"), []byte("x"), 0o600); !errors.Is(err, unix.ENOSPC) {
				t.Fatalf("there is space: %v", err)
			}
			if n, _, err := DropStaged(t.Context(), w.dir, false, nil); n != 2 || err != nil {
				t.Errorf("%d images, %v", n, err)
			}
			if _, err := os.Lstat(StagedIn(w.dir)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is there: %v", err)
			}
			w.whole(t, 2)
			if list, _ := os.ReadDir(filepath.Join(w.dir, "fastpull/run")); len(list) > 0 {
				t.Errorf("folders of processes are left: %v", list)
			}
		})
	}
}
