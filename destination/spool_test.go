package destination

import (
	"context"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
)

// thing is a result that notes that it was closed.
type thing struct{ closed bool }

func (r *thing) Close() error { r.closed = true; return nil }

// TestSpool: a result is shared, and closed when no image holds it any more. A result that
// no image waited for is closed at once.
func TestSpool(t *testing.T) {
	var s Spool[*thing]
	keys := []digest.Digest{"a", "b"}
	one, two := s.Retain(keys), s.Retain(keys)
	made := 0
	get := func() *thing {
		t.Helper()
		r, err := s.Get(t.Context(), t.Context(), "a", "", func(context.Context) (*thing, error) { made++; return &thing{}, nil })
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := get()
	one()
	one()
	if r.closed {
		t.Error("it is closed, and an image holds it")
	}
	if again := get(); again != r || made != 1 {
		t.Errorf("it was made %d times", made)
	}
	if two(); !r.closed {
		t.Error("it is open, and no image holds it")
	}

	late := &thing{}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Get(ctx, t.Context(), "b", "", func(ctx context.Context) (*thing, error) {
		cancel()
		<-ctx.Done()
		return late, nil
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	s.Wait()
	if !late.closed {
		t.Error("it is open, and no image waited for it")
	}
	s.Close()
}

// TestJoin: a joined context ends with either of the two, for its reason.
func TestJoin(t *testing.T) {
	why := errors.New("why")
	for n := range 2 {
		var contexts [2]context.Context
		var cancel [2]context.CancelCauseFunc
		for i := range contexts {
			contexts[i], cancel[i] = context.WithCancelCause(t.Context())
			defer cancel[i](nil)
		}
		ctx, end := Join(contexts[0], contexts[1])
		defer end()
		cancel[n](why)
		if <-ctx.Done(); context.Cause(ctx) != why {
			t.Errorf("%d: %v", n, context.Cause(ctx))
		}
	}
}
