package overlay

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/image"
)

// litter makes a store of two images and a loose layer, which no process works in.
func litter(t *testing.T) (s *Store, a *image.Image) {
	t.Helper()
	maker := openTest(t, t.TempDir())
	a, _ = twoImages(t, maker)
	putChain(t, maker, "loose", 1)
	maker.Close()
	return openTest(t, maker.dir), a
}

// TestCannotLook: a file that says what needs which layer cannot be read:
// then nothing is removed.
func TestCannotLook(t *testing.T) {
	for _, tc := range []struct {
		name       string
		file, only bool // it is a file; prune alone looks at it
	}{
		{"image/overlay2/repositories.json", true, false},
		{"image/overlay2/imagedb/metadata/sha256/x/parent", true, false},
		{"containers", false, false},
		{"containers/x/config.v2.json", true, false},
		{"buildkit/snapshots.db", true, false},
		{"image/overlay2/layerdb/mounts", false, false},
		{"image/overlay2/layerdb/mounts/x/parent", true, false},
		{"image/overlay2/layerdb/mounts/x/mount-id", true, true},
		{"image/overlay2/layerdb/tmp", false, true},
		{"overlay2/x/lower", true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, a := litter(t)
			if err := os.RemoveAll(s.path(tc.name)); err != nil {
				t.Fatal(err)
			}
			// A folder where a file should be, or the other way round: root can read
			// everything else.
			if tc.file {
				if err := os.MkdirAll(s.path(tc.name), 0o700); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, s.path(tc.name), "")
			}
			before := len(tree(t, s.path("overlay2")))
			for _, dry := range []bool{true, false} {
				if p, err := Prune(t.Context(), s.dir, PruneOptions{DryRun: dry}); err == nil {
					t.Errorf("dry run %v: %+v", dry, p)
				}
			}
			if r, err := s.Remove(t.Context(), a.ID.String(), RemoveOptions{}); err == nil && !tc.only {
				t.Errorf("Remove: %+v", r)
			}
			if now := len(tree(t, s.path("overlay2"))); now != before && !tc.only {
				t.Errorf("%d files in overlay2/, before %d", now, before)
			}
		})
	}
}

// TestDoubtful: damage could hide what needs a's layers.
func TestDoubtful(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, s *Store, a *image.Image)
		layers int // of a's three that stay when a has been removed
	}{
		{"a name without a config", func(t *testing.T, s *Store, a *image.Image) {
			if err := os.Remove(s.path("image/overlay2/imagedb/content/sha256", a.ID.Encoded())); err != nil {
				t.Fatal(err)
			}
		}, 3},
		{"a container whose parent is empty", func(t *testing.T, s *Store, a *image.Image) {
			short := read(t, s.path("overlay2", s.entryOf(a.Layers[1].ChainID).cacheID, "link"))
			rw := randomID(32)
			write(t, s.path("image/overlay2/layerdb/mounts/x/mount-id"), rw)
			write(t, s.path("image/overlay2/layerdb/mounts/x/parent"), "")
			write(t, s.path("overlay2", rw, "lower"), "l/ABC:l/"+short)
		}, 2},
		{"a container over a layer without its parent", func(t *testing.T, s *Store, a *image.Image) {
			write(t, s.path("image/overlay2/layerdb/mounts/x/parent"), a.Layers[2].ChainID.String())
			if err := os.Remove(s.path("image/overlay2/layerdb/sha256", a.Layers[2].ChainID.Encoded(), "parent")); err != nil {
				t.Fatal(err)
			}
		}, 3},
		{"the builder knows the folder only", func(t *testing.T, s *Store, a *image.Image) {
			write(t, s.path("buildkit/snapshots.db"), s.entryOf(a.Layers[1].ChainID).cacheID)
		}, 2},
		{"a stray folder", func(t *testing.T, s *Store, a *image.Image) {
			short := read(t, s.path("overlay2", s.entryOf(a.Layers[2].ChainID).cacheID, "link"))
			write(t, s.path("overlay2", randomID(32), "lower"), "l/"+short)
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, a := litter(t)
			tc.damage(t, s, a)
			if tc.layers < 3 || !strings.HasPrefix(tc.name, "a name") {
				if _, err := s.Remove(t.Context(), "a:1", RemoveOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			dry, err := Prune(t.Context(), s.dir, PruneOptions{DryRun: true})
			if err != nil {
				t.Fatal(err)
			}
			wet, err := Prune(t.Context(), s.dir, PruneOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(dry.Layers) != len(wet.Layers) || len(dry.Kept) != len(wet.Kept) || dry.Folders != wet.Folders {
				t.Errorf("dry run: %+v\nrun: %+v", dry, wet)
			}
			have := 0
			for _, l := range a.Layers {
				if _, err := os.Stat(s.path("image/overlay2/layerdb/sha256", l.ChainID.Encoded())); err == nil {
					have++
				}
			}
			if have != tc.layers {
				t.Errorf("%d of a's layers are left, want %d: %+v", have, tc.layers, wet)
			}
		})
	}
}

// TestSameFiles has a loose layer that says that another one's files are its own, or
// the links of all.
func TestSameFiles(t *testing.T) {
	for _, links := range []bool{false, true} {
		s, a := litter(t)
		loose := digest.FromBytes(tarOf("loose-1", "layer 1 of loose"))
		id := "l"
		if !links {
			id = s.entryOf(a.Layers[1].ChainID).cacheID
		}
		write(t, s.path("image/overlay2/layerdb/sha256", loose.Encoded(), "cache-id"), id)
		if _, err := Prune(t.Context(), s.dir, PruneOptions{}); err != nil {
			t.Error(err)
		}
		at := t.TempDir()
		if err := s.Mount(a, at); err != nil {
			t.Fatalf("links: %v: %v", links, err)
		}
		if err := Unmount(t.Context(), at); err != nil {
			t.Error(err)
		}
	}
}

// TestOthersLinks has a root whose overlay2/ is another one's, and a store with a
// symlink that another user has made.
func TestOthersLinks(t *testing.T) {
	s, a := litter(t)
	other := openTest(t, t.TempDir())
	if err := os.RemoveAll(other.path("overlay2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.path("overlay2"), other.path("overlay2")); err != nil {
		t.Fatal(err)
	}
	if p, err := Prune(t.Context(), other.dir, PruneOptions{}); err != nil || p.Folders != 0 || len(s.Chain(a.Layers)) != 3 {
		t.Errorf("%+v %v, %d layers are left in the other store", p, err, len(s.Chain(a.Layers)))
	}
	if err := os.Lchown(other.path("overlay2"), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), other.dir, Options{NoSync: true}); err == nil || !strings.Contains(err.Error(), "belongs to the user 1000") {
		t.Errorf("another's symlink: %v", err)
	}
}

// TestPruneRefused counts nothing as removed, or to be removed, where the store is
// not to be written.
func TestPruneRefused(t *testing.T) {
	s, _ := litter(t)
	write(t, s.path("fastpull/run/dead/x"), "x")
	write(t, s.path("image/btrfs/x"), "")
	for _, dry := range []bool{true, false} {
		p, err := Prune(t.Context(), s.dir, PruneOptions{DryRun: dry})
		if err == nil || p.Staging != 0 || p.Freed != 0 || p.Deleted == nil {
			t.Errorf("dry run %v: %+v %v", dry, p, err)
		}
	}
}
