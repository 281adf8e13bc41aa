package fetch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSlotsOrder: the biggest goes first, and of equals the one that came first.
func TestSlotsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(1)
		if err := s.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		var order []string
		var wg sync.WaitGroup
		for i, size := range []int64{5, 20, 5, 1, 20, 10} {
			wg.Go(func() {
				if err := s.Acquire(t.Context(), size); err != nil {
					t.Error(err)
				}
				order = append(order, fmt.Sprintf("%d#%d", size, i))
				s.Release()
			})
			synctest.Wait()
		}
		s.Release()
		wg.Wait()
		if got, want := fmt.Sprint(order), "[20#1 20#4 10#5 5#0 5#2 1#3]"; got != want {
			t.Errorf("order %s, want %s", got, want)
		}
		if s.free != 1 {
			t.Errorf("%d slots are free at the end", s.free)
		}
	})
}

func TestSlotsCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSlots(1)
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := s.Acquire(ctx, 1); err != nil {
			t.Fatal(err)
		}
		result := make(chan error)
		go func() { result <- s.Acquire(ctx, 1) }()
		synctest.Wait()
		cancel(why)
		if err := <-result; err != why {
			t.Errorf("error: %v", err)
		}
		if err := s.Acquire(ctx, 1); err != why {
			t.Errorf("with a context that was over before: %v", err)
		}
		s.Release()
		if s.free != 1 || len(s.waiting) != 0 {
			t.Errorf("%d free, %d waiting", s.free, len(s.waiting))
		}
	})
}

// TestSlotsRace cancels while slots are handed over. None is lost, and never are
// more taken than there are.
func TestSlotsRace(t *testing.T) {
	const n = 3
	s := NewSlots(n)
	var taken, got atomic.Int64
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%7)*20*time.Microsecond)
			defer cancel()
			if s.Acquire(ctx, int64(i%5)) != nil {
				return
			}
			if taken.Add(1) > n {
				t.Error("too many slots were given")
			}
			got.Add(1)
			taken.Add(-1)
			s.Release()
		})
	}
	wg.Wait()
	if s.free != n || len(s.waiting) != 0 {
		t.Errorf("%d of %d slots are free, %d wait; %d were given", s.free, n, len(s.waiting), got.Load())
	}
}
