package overlay

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// TestMendCrash kills a process at every step of putting a layer in the place of a
// damaged one under others. The layers above find it at any time.
func TestMendCrash(t *testing.T) {
	for _, step := range []string{"note", "old note", "committed", "files", "entry", "link", "old files"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, err := Open(t.Context(), dir, Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			img := putChain(t, s, "m", 3)
			record(t, s, img, "m:1")
			s.Close()
			before := shape(t, s)
			old, err := s.Layer(img.Layers[1].ChainID)
			if err != nil {
				t.Fatal(err)
			}
			c := start(t, "mend", dir, old.ChainID.String(), old.Parent.String(), step)
			c.cmd.Wait()
			if c.cmd.ProcessState.Success() || c.err.Len() > 0 {
				t.Fatalf("the child was not killed: %v %s", c.cmd.ProcessState, c.err.String())
			}
			check := func(when string) {
				if have := s.Chain(img.Layers); len(have) != 3 {
					t.Errorf("%s: %d layers", when, len(have))
				}
				lower := strings.Split(read(t, s.path("overlay2", s.entryOf(img.Layers[2].ChainID).cacheID, "lower")), ":")
				if got := read(t, s.path("overlay2", lower[0], "m-2")); got != "layer 2 of m" {
					t.Errorf("%s: the layer above sees %q", when, got)
				}
			}
			check("after the kill")
			openTest(t, dir).Close()
			check("after the sweep")
			if after := shape(t, s); after != before {
				t.Errorf("the store has\n%s\nhad\n%s", after, before)
			}
			now := s.entryOf(old.ChainID).cacheID
			if changed := now != old.CacheID; changed != slices.Contains([]string{"entry", "link", "old files"}, step) {
				t.Errorf("the layer has other files: %v", changed)
			}
			if got := read(t, s.path("overlay2", now, "lower")); !strings.HasPrefix(got, "l/") {
				t.Errorf("lower has %q", got)
			}
			if st, err := os.Stat(s.path("overlay2", now, "committed")); err != nil || st.Mode() != fs.FileMode(0o600) {
				t.Errorf("committed: %v %v", st, err)
			}
		})
	}
}

// childMend puts a layer of putChain in the place of itself and dies at the given
// step of it.
func childMend(args []string) error {
	published = func(step string) {
		if step == args[3] {
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	s, err := Open(background, args[0], Options{NoSync: true})
	if err != nil {
		return err
	}
	plain := tarOf("m-2", "layer 2 of m")
	st, err := s.Mend(background, digest.Digest(args[1]), digest.Digest(args[2]), digest.FromBytes(plain), nil)
	if err != nil {
		return err
	}
	size, err := fill(st, plain)
	if err != nil {
		return err
	}
	return st.Commit(background, size)
}

// TestMendMounted mounts a layer while its replacement is being made.
func TestMendMounted(t *testing.T) {
	s := openTest(t, t.TempDir())
	a, _ := twoImages(t, s)
	l, before := a.Layers[0], s.entryOf(a.Layers[0].ChainID)
	st, err := s.Mend(t.Context(), l.ChainID, l.Parent, l.DiffID, nil)
	if err != nil {
		t.Fatal(err)
	}
	size, err := fill(st, tarOf("shared-1", "layer 1 of shared"))
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	if err := s.Mount(a, at); err != nil {
		t.Fatal(err)
	}
	defer Unmount(t.Context(), at)
	if err := st.Commit(t.Context(), size); err == nil || !strings.Contains(err.Error(), "mounted at") {
		t.Errorf("Commit: %v", err)
	}
	if now := s.entryOf(l.ChainID); now != before || read(t, at, "shared-1") == "" {
		t.Errorf("the layer was replaced: %+v", now)
	}
}
