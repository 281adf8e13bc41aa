package pull

import (
	"testing"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// TestNull: images that go nowhere are fetched and verified all the same.
func TestNull(t *testing.T) {
	s := serve(t)
	a, b := noise(t, "a", 2<<20), noise(t, "b", 1<<10)
	one, two := s.push(t, "one:tag", a, b), s.push(t, "two:tag", b)
	sum, err := pull(t, t.Context(), to{Kind: "null", Options: Options{References: []registry.Reference{one}}})
	if err != nil || sum.Images[0].Status != Pulled || sum.BytesFetched == 0 || sum.Destination != "nowhere" {
		t.Errorf("%+v, %v", sum, err)
	}
	if s.got(blobOf(a)) != 1 || s.got(blobOf(b)) != 1 {
		t.Errorf("the layers were fetched %d and %d times", s.got(blobOf(a)), s.got(blobOf(b)))
	}
	s.spoil = flip(always, b)
	sum, err = pull(t, t.Context(), to{Kind: "null", Options: Options{References: []registry.Reference{one, two}, KeepGoing: true}})
	if err == nil || fault.KindOf(sum.Images[0].Err) != fault.Corrupt || fault.KindOf(sum.Images[1].Err) != fault.Corrupt {
		t.Errorf("damaged: %v", err)
	}
}
