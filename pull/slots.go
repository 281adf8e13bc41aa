package pull

import (
	"context"
	"slices"
	"sync"
	"time"
)

// gather is how long a free slot waits for a bigger layer than the first that
// asks: an image's layers ask for theirs at the same time, in any order.
const gather = 2 * time.Millisecond

// slots lets a number of layers be worked on at a time. Those that wait get in
// by size, the biggest first.
type slots struct {
	mu      sync.Mutex
	free    int
	waiting []*waiter // the biggest last
}

type waiter struct {
	size  int64
	ready chan struct{}
}

func newSlots(n int) *slots { return &slots{free: n} }

// acquire waits for a slot. Nil means that the caller has one and must give it
// back with release.
func (s *slots) acquire(ctx context.Context, size int64) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	w := &waiter{size: size, ready: make(chan struct{})}
	s.mu.Lock()
	i, _ := slices.BinarySearchFunc(s.waiting, size, func(w *waiter, size int64) int {
		if w.size < size {
			return -1
		}
		return 1 // behind its equals on the way out: first come, first served
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
	if i < 0 { // it was given a slot in the same moment
		s.release()
	}
	return context.Cause(ctx)
}

func (s *slots) release() {
	s.mu.Lock()
	s.free++
	s.mu.Unlock()
	s.grant()
}

// grant gives the free slots to those that wait.
func (s *slots) grant() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(s.waiting); n > 0 && s.free > 0; n-- {
		close(s.waiting[n-1].ready)
		s.waiting = s.waiting[:n-1]
		s.free--
	}
}
