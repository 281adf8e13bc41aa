package overlay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// visible lists what Docker would take notice of.
func visible(t *testing.T, s *Store) string {
	t.Helper()
	var list []string
	for _, line := range tree(t, s.dir) {
		if _, path, _ := strings.Cut(line, " "); path != "fastpull" && !strings.HasPrefix(path, "fastpull/") {
			list = append(list, line)
		}
	}
	return strings.Join(list, "\n")
}

// idle checks that nothing waits in the store's own folders.
func idle(t *testing.T, s *Store) {
	t.Helper()
	for _, dir := range []string{s.run.Path, s.path("fastpull/pending")} {
		if got := tree(t, dir); len(got) != 1 {
			t.Errorf("left in %s: %q", dir, got[1:])
		}
	}
}

func TestAbort(t *testing.T) {
	s := openTest(t, t.TempDir())
	before := visible(t, s)
	for _, cleared := range []bool{false, true} {
		st, err := s.Begin(t.Context(), digest.FromString("x"), "", digest.FromString("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if cleared {
			if err := st.Clear(); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // the second time does nothing
			if err := st.Abort(); err != nil {
				t.Error(err)
			}
		}
		if after := visible(t, s); after != before {
			t.Errorf("Abort changed the store to\n%s", after)
		}
		idle(t, s)
	}
}

// TestClear begins a layer anew: what the first attempt made is gone, and the
// second one's tar-split is whole.
func TestClear(t *testing.T) {
	s := openTest(t, t.TempDir())
	plain := tarOf("a", "content")
	st, size, err := begin(s, "", plain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(st.Dir()+"/stale", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := st.Clear(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, st.Dir()); len(got) != 1 {
		t.Errorf("after Clear: %q", got)
	}
	if _, err := unpack.Extract(t.Context(), bytes.NewReader(plain), st.Dir(), unpack.ExtractOptions{
		Whiteouts: whiteout.Overlay{}, TarSplit: st.TarSplit(),
	}); err != nil {
		t.Fatal(err)
	}
	if err := st.Commit(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	if err := st.Abort(); err != nil {
		t.Errorf("Abort after Commit: %v", err)
	}
	l, err := s.Layer(digest.FromBytes(plain))
	if err != nil {
		t.Fatalf("Abort after Commit took the layer: %v", err)
	}
	r, err := s.Tar(l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("its tar: %d bytes, %v", len(got), err)
	}
}

func TestExists(t *testing.T) {
	s := openTest(t, t.TempDir())
	chain, err := put(s, "", tarOf("a", "a"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the lock was given back
		if _, err := s.Begin(t.Context(), chain, "", chain, nil); !errors.Is(err, ErrExists) {
			t.Errorf("Begin of a layer that is there: %v", err)
		}
	}
}

func TestCommitWithoutParent(t *testing.T) {
	s := openTest(t, t.TempDir())
	before := visible(t, s)
	_, err := put(s, digest.FromString("nobody"), tarOf("a", "a"))
	if err == nil || !strings.Contains(err.Error(), "its parent") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error: %v", err)
	}
	if after := visible(t, s); after != before {
		t.Errorf("the store changed to\n%s", after)
	}
	idle(t, s)
}

func TestCommitCancelled(t *testing.T) {
	s := openTest(t, t.TempDir())
	before := visible(t, s)
	st, size, err := begin(s, "", tarOf("a", "a"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if err := st.Commit(ctx, size); !errors.Is(err, why) {
		t.Errorf("error: %v", err)
	}
	if after := visible(t, s); after != before {
		t.Errorf("the store changed to\n%s", after)
	}
	idle(t, s)
}

// TestCommitFails lets each step of a commit run into something. What the steps
// before have done is undone.
func TestCommitFails(t *testing.T) {
	for _, tc := range []struct{ step, blocked string }{
		{"note", "fastpull/pending"}, {"link", "overlay2/l"}, {"entry", "image/overlay2/layerdb/sha256"},
	} {
		t.Run(tc.step, func(t *testing.T) {
			s := openTest(t, t.TempDir())
			before := visible(t, s)
			st, size, err := begin(s, "", tarOf("a", "a"))
			if err != nil {
				t.Fatal(err)
			}
			dir := s.path(tc.blocked)
			if err := os.Rename(dir, dir+"-away"); err != nil {
				t.Fatal(err)
			}
			err = st.Commit(t.Context(), size)
			if err == nil {
				t.Error("the commit went well")
			}
			if err := os.Rename(dir+"-away", dir); err != nil {
				t.Fatal(err)
			}
			if tc.step == "entry" { // what is named could not be read: a next run looks again
				s.Close()
				s = openTest(t, s.dir)
			}
			if after := visible(t, s); after != before {
				t.Errorf("the store changed to\n%s", after)
			}
			idle(t, s)
		})
	}
}

// TestLayerDamaged has entries of layerdb that cannot be used. They are not
// taken for layers, and do not stand in the way of making them anew.
func TestLayerDamaged(t *testing.T) {
	for _, tc := range []struct {
		name, file, content string
		corrupt             bool
	}{
		{"empty size", "size", "", true},
		{"empty diff", "diff", "", true},
		{"empty cache-id", "cache-id", "", true},
		{"cache-id that leads away", "cache-id", "../../..", true},
		{"files gone", "cache-id", strings.Repeat("0", 64), false},
		{"no cache-id", "cache-id", "-", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := openTest(t, t.TempDir())
			plain := tarOf("a", "a")
			chain, err := put(s, "", plain)
			if err != nil {
				t.Fatal(err)
			}
			name := s.path("image/overlay2/layerdb/sha256", chain.Encoded(), tc.file)
			if tc.content == "-" {
				err = os.Remove(name)
			} else {
				err = os.WriteFile(name, []byte(tc.content), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Layer(chain)
			if err == nil || (fault.KindOf(err) == fault.Corrupt) != tc.corrupt || errors.Is(err, fs.ErrNotExist) == tc.corrupt {
				t.Errorf("Layer: %v", err)
			}
			if _, ok := s.Same(chain); ok {
				t.Error("Same takes it for a layer")
			}
			if _, err := put(s, "", plain); err != nil {
				t.Fatalf("make it anew: %v", err)
			}
			if _, err := s.Layer(chain); err != nil {
				t.Errorf("after that: %v", err)
			}
			idle(t, s)
		})
	}
}

func TestSameAndChain(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 3)
	if got := s.Chain(img.Layers); len(got) != 3 || got[2].ChainID != img.Layers[2].ChainID {
		t.Errorf("Chain: %+v", got)
	}
	other := imageOf(t, "y", img.Layers[0].DiffID, digest.FromString("missing"), img.Layers[2].DiffID)
	if got := s.Chain(other.Layers); len(got) != 1 {
		t.Errorf("Chain of an image that shares one layer: %+v", got)
	}
	l, ok := s.Same(img.Layers[1].DiffID)
	if !ok || l.ChainID != img.Layers[1].ChainID || read(t, s.DiffDir(l), "x-2") != "layer 2 of x" {
		t.Errorf("Same: %+v %v", l, ok)
	}
	if l, ok := s.Same(digest.FromString("missing")); ok {
		t.Errorf("Same found %+v", l)
	}
	if _, err := s.Layer("no digest"); err == nil {
		t.Error("a layer without a digest")
	}
}
