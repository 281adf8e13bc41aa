package fetch

import (
	"context"
	"slices"
	"sync"
	"time"
)

// gather is how long a free slot is kept, so that the layers of an image can compete
// for it before the first of them takes it.
const gather = 2 * time.Millisecond

// Slots bound how many layers are worked on at a time. Layers that wait get a slot by
// weight, the heaviest first. The weight is the size, as a rule: the last big layer decides
// when a run ends. Slots are safe for concurrent use.
type Slots struct {
	mu      sync.Mutex
	free    int
	waiting []*waiter // the heaviest last
}

type waiter struct {
	weight int64
	ready  chan struct{}
}

// NewSlots returns n slots.
func NewSlots(n int) *Slots { return &Slots{free: n} }

// Acquire waits for a slot for a layer. The caller that got nil has a slot
// and gives it back with [Slots.Release].
func (s *Slots) Acquire(ctx context.Context, weight int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w := &waiter{weight: weight, ready: make(chan struct{})}
	s.mu.Lock()
	i, _ := slices.BinarySearchFunc(s.waiting, weight, func(w *waiter, weight int64) int {
		if w.weight < weight {
			return -1
		}
		return 1 // of equal weights, the first to wait is the last in the list
	})
	s.waiting = slices.Insert(s.waiting, i, w)
	if s.free > 0 {
		time.AfterFunc(gather, s.grant)
	}
	s.mu.Unlock()

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	i = slices.Index(s.waiting, w)
	if i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // a slot was granted at the same moment
		s.Release()
	}
	return context.Cause(ctx)
}

// Release gives a slot back.
func (s *Slots) Release() {
	s.mu.Lock()
	s.free++
	s.mu.Unlock()
	s.grant()
}

// grant gives the free slots to the layers that wait.
func (s *Slots) grant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(s.waiting); n > 0 && s.free > 0; n-- {
		close(s.waiting[n-1].ready)
		s.waiting = s.waiting[:n-1]
		s.free--
	}
}
