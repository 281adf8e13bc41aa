package destination

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

const key = digest.Digest("key")

// answer is what do returned.
type answer struct {
	value   int
	started bool
	err     error
}

// ask calls do in a goroutine of its own.
func ask(g *Group[int], ctx, base context.Context, fn func(context.Context) (int, error)) chan answer {
	result := make(chan answer, 1)
	go func() {
		v, started, err := g.Do(ctx, base, key, "here", fn)
		result <- answer{v, started, err}
	}()
	synctest.Wait()
	return result
}

// until returns work that ends with value when release is closed, or with the
// reason for which it is cancelled.
func until(release chan struct{}, value int) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		select {
		case <-release:
			return value, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func never(context.Context) (int, error) { panic("called again") }

func TestGroupShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		release := make(chan struct{})
		first := ask(&g, t.Context(), t.Context(), until(release, 7))
		second := ask(&g, t.Context(), t.Context(), never)
		close(release)
		if a := <-first; a != (answer{7, true, nil}) {
			t.Errorf("the first got %+v", a)
		}
		if a := <-second; a != (answer{7, false, nil}) {
			t.Errorf("the second got %+v", a)
		}
		// The result is kept for later callers, until it is forgotten.
		if a := <-ask(&g, t.Context(), t.Context(), never); a != (answer{7, false, nil}) {
			t.Errorf("a late one got %+v", a)
		}
		if all := g.Values(); len(all) != 1 || all[0] != 7 {
			t.Errorf("values: %v", all)
		}
		if v := g.Forget(key); v != 7 {
			t.Errorf("forget returned %d", v)
		}
		if v := g.Forget(key); v != 0 {
			t.Errorf("forget of nothing returned %d", v)
		}
		if a := <-ask(&g, t.Context(), t.Context(), until(release, 8)); a != (answer{8, true, nil}) {
			t.Errorf("after forget: %+v", a)
		}
		g.Wait()
	})
}

func TestGroupKeepsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		broken := errors.New("broken")
		for _, started := range []bool{true, false} {
			a := <-ask(&g, t.Context(), t.Context(), func(context.Context) (int, error) { return 3, broken })
			if a.err != broken || a.started != started {
				t.Errorf("got %+v", a)
			}
		}
		if all := g.Values(); len(all) != 0 {
			t.Errorf("a result that failed is among the values: %v", all)
		}
	})
}

// TestGroupUnwanted: a caller that leaves does not end what others wait for, the last one
// does, and the next caller starts anew, when the old call has ended.
func TestGroupUnwanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		why := errors.New("enough")
		ctx1, cancel1 := context.WithCancelCause(t.Context())
		ctx2, cancel2 := context.WithCancelCause(t.Context())
		cancelled, finish := make(chan error, 1), make(chan struct{})
		first := ask(&g, ctx1, t.Context(), func(ctx context.Context) (int, error) {
			<-ctx.Done()
			cancelled <- context.Cause(ctx)
			<-finish // it takes its time
			return 0, ctx.Err()
		})
		second := ask(&g, ctx2, t.Context(), never)
		cancel1(why)
		if a := <-first; a.err != why {
			t.Errorf("the first got %+v", a)
		}
		synctest.Wait()
		if len(cancelled) > 0 {
			t.Fatal("the call was cancelled while somebody waited")
		}
		cancel2(why)
		if a := <-second; a.err != why {
			t.Errorf("the second got %+v", a)
		}
		if err := <-cancelled; err != ErrUnwanted {
			t.Errorf("the call was cancelled for %v", err)
		}
		// A caller that leaves while it waits for the old call's end, and one that stays.
		ctx3, cancel3 := context.WithCancelCause(t.Context())
		third := ask(&g, ctx3, t.Context(), never)
		release := make(chan struct{})
		fourth := ask(&g, t.Context(), t.Context(), until(release, 4))
		if v := g.Forget(key); v != 0 {
			t.Errorf("forget of a call under way returned %d", v)
		}
		cancel3(why)
		if a := <-third; a.err != why {
			t.Errorf("the third got %+v", a)
		}
		close(finish)
		synctest.Wait()
		close(release)
		if a := <-fourth; a != (answer{4, true, nil}) {
			t.Errorf("the fourth got %+v", a)
		}
		g.Wait()
	})
}

// TestGroupDrop: a result that comes in spite of the cancellation is not lost.
func TestGroupDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dropped []int
		g := Group[int]{Drop: func(v int) { dropped = append(dropped, v) }}
		ctx, cancel := context.WithCancel(t.Context())
		finish := make(chan struct{})
		first := ask(&g, ctx, t.Context(), func(context.Context) (int, error) {
			<-finish
			return 5, nil
		})
		cancel()
		<-first
		second := ask(&g, t.Context(), t.Context(), func(context.Context) (int, error) {
			if len(dropped) != 1 {
				t.Error("the next call began before the result was dropped")
			}
			return 6, nil
		})
		close(finish)
		if a := <-second; a != (answer{6, true, nil}) {
			t.Errorf("the second got %+v", a)
		}
		g.Wait()
		if len(dropped) != 1 || dropped[0] != 5 {
			t.Errorf("dropped: %v", dropped)
		}
	})
}

func TestGroupEndsWithBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		why := errors.New("the run is over")
		base, cancel := context.WithCancelCause(t.Context())
		first := ask(&g, t.Context(), base, until(nil, 1))
		cancel(why)
		if a := <-first; a.err != why {
			t.Errorf("got %+v", a)
		}
		g.Wait()
	})
}

// TestGroupOrigins: an error about content ends the callers that have it from the same origin.
// Others start the work again.
func TestGroupOrigins(t *testing.T) {
	for _, tc := range []struct {
		name   string
		err    error
		origin string
		again  bool
	}{
		{"from elsewhere", fault.New(fault.Corrupt, "damaged"), "there", true},
		{"from the same origin", fault.New(fault.Corrupt, "damaged"), "here", false},
		{"of the disk", errors.New("no space left"), "there", false},
	} {
		var g Group[int]
		do := func(origin string, fn func(context.Context) (int, error)) (int, bool, error) {
			return g.Do(t.Context(), t.Context(), key, origin, fn)
		}
		if _, _, err := do("here", func(context.Context) (int, error) { return 0, tc.err }); err != tc.err {
			t.Errorf("%s: the first got %v", tc.name, err)
		}
		v, started, err := do(tc.origin, func(context.Context) (int, error) { return 7, nil })
		if tc.again && (v != 7 || !started || err != nil) || !tc.again && err != tc.err {
			t.Errorf("%s: %d, started %v, %v", tc.name, v, started, err)
		}
	}
}
