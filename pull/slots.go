package pull

import (
	"context"
	"slices"
	"sync"
)

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
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	w := &waiter{size: size, ready: make(chan struct{})}
	i, _ := slices.BinarySearchFunc(s.waiting, size, func(w *waiter, size int64) int {
		if w.size < size {
			return -1
		}
		return 1 // behind its equals on the way out: first come, first served
	})
	s.waiting = slices.Insert(s.waiting, i, w)
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
	defer s.mu.Unlock()
	n := len(s.waiting)
	if n == 0 {
		s.free++
		return
	}
	close(s.waiting[n-1].ready)
	s.waiting = s.waiting[:n-1]
}
