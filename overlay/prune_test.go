package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// TestPrune makes all kinds of litter, beside what looks like it and is none.
func TestPrune(t *testing.T) {
	s := openTest(t, t.TempDir())
	_, b := twoImages(t, s)
	want := shape(t, s)
	living := start(t, "commit", s.dir, b.Layers[1].ChainID.String(), "pause at files")
	living.line(t)
	maker := openTest(t, s.dir)
	orphan := putChain(t, maker, "orphan", 2)
	maker.Close() // it needs them no more
	stray := randomID(32)
	for _, dir := range []string{"overlay2/" + stray + "/diff", "overlay2/" + stray + "-init", "overlay2/somebody-put-it-here", "fastpull/run/dead/x"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"LOST": "../lost/diff", "STRAY": "../" + stray + "/diff"} {
		if err := os.Symlink(to, s.path("overlay2/l", name)); err != nil {
			t.Fatal(err)
		}
	}
	dry, err := Prune(t.Context(), s.dir, PruneOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path("fastpull/run/dead")); err != nil || len(s.Chain(orphan.Layers)) != 2 {
		t.Errorf("a dry run removed something: %v", err)
	}
	wet, err := Prune(t.Context(), s.dir, PruneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]Pruned{"dry run": dry, "run": wet} {
		if len(p.Layers) != 2 || p.Folders != 2 || p.Links != 2 || p.Staging != 1 || p.Freed < 8<<10 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	fmt.Fprintln(living.in, "go on")
	living.stop(t)
	chain := image.ChainID(b.Layers[1].ChainID, digest.FromBytes(childTar))
	if _, err := s.Layer(chain); err != nil {
		t.Errorf("the layer of a process that lives: %v", err)
	}
	if _, err := Prune(t.Context(), s.dir, PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.path("overlay2/somebody-put-it-here")); err != nil {
		t.Error(err)
	}
	if got := shape(t, s); got != want {
		t.Errorf("the store has\n%s\nwant\n%s", got, want)
	}
	if _, err := Prune(t.Context(), filepath.Join(t.TempDir(), "none"), PruneOptions{}); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no store: %v", err)
	}
}
