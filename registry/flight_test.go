package registry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[string, int]
		var made atomic.Int32
		hold := make(chan struct{})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				v, err := f.do(t.Context(), "a", func(context.Context) (int, error) {
					<-hold
					return int(made.Add(1)), nil
				})
				if v != 1 || err != nil {
					t.Error(v, err)
				}
			})
		}
		synctest.Wait()
		if len(f.values()) != 0 {
			t.Error("a value that is not made yet")
		}
		close(hold)
		wg.Wait()

		next := func(context.Context) (int, error) { return int(made.Add(1)), nil }
		f.forget("a", 7) // not the one that is there
		if v, _ := f.do(t.Context(), "a", next); v != 1 {
			t.Errorf("forgot a value that was not stale: %d", v)
		}
		f.forget("a", 1)
		f.forget("none", 1)
		if v, _ := f.do(t.Context(), "a", next); v != 2 {
			t.Errorf("kept a stale value: %d", v)
		}
	})
}

func TestFlightFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[string, int]
		var calls atomic.Int32
		hold, failure := make(chan struct{}), errors.New("failure")
		fail := func(context.Context) (int, error) {
			calls.Add(1)
			<-hold
			return 0, failure
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if _, err := f.do(t.Context(), "a", fail); err != failure {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(hold)
		wg.Wait()
		if calls.Load() != 1 {
			t.Errorf("%d calls", calls.Load())
		}
		if v, err := f.do(t.Context(), "a", func(context.Context) (int, error) { return 5, nil }); v != 5 || err != nil {
			t.Errorf("the failure was kept: %d, %v", v, err)
		}
	})
}

// When the caller that does the work leaves, one that waits takes over.
func TestFlightLeaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[string, int]
		leader, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := f.do(leader, "a", func(ctx context.Context) (int, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				v, err := f.do(t.Context(), "a", func(context.Context) (int, error) { return 9, nil })
				if v != 9 || err != nil {
					t.Error(v, err)
				}
			})
		}
		impatient, giveUp := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := f.do(impatient, "a", nil); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		giveUp()
		synctest.Wait()
		leave()
		wg.Wait()
	})
}
