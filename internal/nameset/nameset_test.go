package nameset

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// A set has what was put, and nothing else, however it has grown.
func TestSet(t *testing.T) {
	b := new(Budget)
	s := Set{Budget: b}
	if s.Has(7) {
		t.Error("an empty set has something")
	}
	r := rand.New(rand.NewPCG(3, 4))
	put := make(map[uint64]bool)
	for range 200_000 {
		h := r.Uint64() >> (r.IntN(2) * 3) // some tables fill before others do
		was, err := s.Put(h)
		if err != nil || was != put[h] {
			t.Fatalf("put %#x: %t, %v", h, was, err)
		}
		put[h] = true
	}
	if len(s.tables) < 32 {
		t.Errorf("%d tables", len(s.tables))
	}
	for h := range put {
		if was, err := s.Put(h); !was || err != nil || !s.Has(h) {
			t.Fatalf("%#x is lost: %v", h, err)
		}
	}
	for range 100_000 {
		if h := r.Uint64(); s.Has(h) && !put[h] {
			t.Fatalf("%#x is there, and was not put", h)
		}
	}
	if s.Drop(); b.used != 0 || s.Has(1) {
		t.Errorf("%d names are left", b.used)
	}
	for _, again := range []bool{false, true} {
		if was, _ := s.Put(0); was != again {
			t.Errorf("put 0: it was there: %t", was)
		}
	}
}

// The names of all sets of a Budget have a limit, and a set that was emptied leaves nothing
// behind.
func TestNamesAreBounded(t *testing.T) {
	b := &Budget{Most: 10_000}
	first, second := Set{Budget: b}, Set{Budget: b}
	if _, err := first.Put(1); err != nil {
		t.Errorf("it fits: %v", err)
	}
	if _, err := second.Put(1); fault.KindOf(err) != fault.Failed || !strings.Contains(fault.HintOf(err), "--jobs 1") {
		t.Errorf("it does not fit: %v", err)
	}
	second.Drop()
	if first.Drop(); b.used != 0 {
		t.Errorf("%d names are left", b.used)
	}
	// A set that has been split before returns an error, too, and stays as it was.
	s := Set{Budget: &Budget{used: defaultMost - 2*tableMost}}
	r, n := rand.New(rand.NewPCG(1, 1)), 0
	for ; n < 3*tableMost; n++ {
		if _, err := s.Put(r.Uint64()); err != nil {
			break
		}
	}
	if n < tableMost || n > 2*tableMost || len(s.tables) != 2 {
		t.Errorf("refused after %d names in %d tables", n, len(s.tables))
	}
}
