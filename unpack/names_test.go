package unpack

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// A set of names has what was put, and nothing else, however it has grown.
func TestNameSet(t *testing.T) {
	names := new(Names)
	s := nameSet{names: names}
	if s.has(7) {
		t.Error("an empty set has something")
	}
	r := rand.New(rand.NewPCG(3, 4))
	put := make(map[uint64]bool)
	for range 200_000 {
		h := r.Uint64() >> (r.IntN(2) * 3) // some tables fill before others do
		was, err := s.put(h)
		if err != nil || was != put[h] {
			t.Fatalf("put %#x: %t, %v", h, was, err)
		}
		put[h] = true
	}
	if len(s.tables) < 32 {
		t.Errorf("%d tables", len(s.tables))
	}
	for h := range put {
		if was, err := s.put(h); !was || err != nil || !s.has(h) {
			t.Fatalf("%#x is lost: %v", h, err)
		}
	}
	for range 100_000 {
		if h := r.Uint64(); s.has(h) && !put[h] {
			t.Fatalf("%#x is there, and was not put", h)
		}
	}
	if s.drop(); names.n != 0 || s.has(1) {
		t.Errorf("%d names are left", names.n)
	}
	for _, again := range []bool{false, true} {
		if was, _ := s.put(0); was != again {
			t.Errorf("put 0: it was there: %t", was)
		}
	}
}

// The names of all layers of a run together have a limit, and a layer that was refused
// or is done leaves nothing behind.
func TestNamesAreBounded(t *testing.T) {
	names := new(Names)
	raw := makeTar(t, file("a", ""), file("b", ""))
	var split bytes.Buffer
	o := ExtractOptions{Whiteouts: Overlay{}, TarSplit: &split, Names: names}
	for _, more := range []int64{maxNames - tableMost, 1} {
		if !names.add(more) {
			t.Fatal("there is no room in Names that are not full")
		}
		before := names.n
		_, err := extractRaw(t, raw, t.TempDir(), o)
		if more > 1 && err != nil {
			t.Errorf("it fits: %v", err)
		}
		if more == 1 && (fault.KindOf(err) != fault.Failed || !strings.Contains(fault.HintOf(err), "--jobs 1")) {
			t.Errorf("it does not fit: %v", err)
		}
		if names.n != before {
			t.Errorf("%d names are left", names.n-before)
		}
	}
	// A set that has been split before is refused, too, and stays as it was.
	s := nameSet{names: &Names{n: maxNames - 2*tableMost}}
	r, n := rand.New(rand.NewPCG(1, 1)), 0
	for ; n < 3*tableMost; n++ {
		if _, err := s.put(r.Uint64()); err != nil {
			break
		}
	}
	if n < tableMost || n > 2*tableMost || len(s.tables) != 2 {
		t.Errorf("refused after %d names in %d tables", n, len(s.tables))
	}
}
