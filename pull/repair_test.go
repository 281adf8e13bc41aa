package pull

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/overlay"
)

// TestRepairWithoutImage mends layers of which no image tells what they are: they say
// so themselves, and that they say something else is one of the damages they may have.
func TestRepairWithoutImage(t *testing.T) {
	s := serve(t)
	below, top := layer(t, file{name: "below", content: "1"}), layer(t, file{name: "top", content: "2"})
	ref := s.push(t, "img:1", below, top)
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := pull(t, t.Context(), storeOptions(dir, ref)); err != nil {
		t.Fatal(err)
	}
	configs, err := filepath.Glob(filepath.Join(dir, "image/overlay2/imagedb/content/sha256/*"))
	if err != nil || len(configs) != 1 {
		t.Fatal(configs, err)
	}
	if err := os.Remove(configs[0]); err != nil {
		t.Fatal(err)
	}
	base, child := diffOf(below), image.ChainID(diffOf(below), diffOf(top))
	other := digest.FromString("a layer that nobody knows")
	for _, tc := range []struct {
		name   string
		damage overlay.Damage
		mended bool
	}{
		{"the base", overlay.Damage{Layer: base, DiffID: base}, true},
		{"one on it", overlay.Damage{Layer: child, DiffID: diffOf(top), Parent: base}, true},
		{"another diffID", overlay.Damage{Layer: other, DiffID: base}, false},
		{"the diffID of the one below", overlay.Damage{Layer: child, DiffID: base, Parent: base}, false},
		{"no parent any more", overlay.Damage{Layer: child, DiffID: diffOf(top)}, false},
		{"another parent", overlay.Damage{Layer: child, DiffID: diffOf(top), Parent: other}, false},
		{"no diffID", overlay.Damage{Layer: base}, false},
	} {
		m, err := dockerroot.Repair(t.Context(), dockerroot.RepairOptions{Path: dir, Registry: client(t, "test")}, []overlay.Damage{tc.damage})
		if tc.mended {
			if err != nil || !slices.Equal(m.Layers, []digest.Digest{tc.damage.DiffID}) {
				t.Errorf("%s: %+v, %v", tc.name, m, err)
			}
			continue
		}
		if fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "nothing tells where it came from") || len(m.Layers) > 0 || m.Fetched > 0 {
			t.Errorf("%s: %+v, %v", tc.name, m, err)
		}
	}
	r, err := overlay.OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := r.Layer(other); err == nil {
		t.Errorf("there is a layer %+v", l)
	}
	for chain, diff := range map[digest.Digest]digest.Digest{base: base, child: diffOf(top)} {
		if l, err := r.Layer(chain); err != nil || l.DiffID != diff {
			t.Errorf("%s: %+v, %v", chain, l, err)
		}
	}
}
