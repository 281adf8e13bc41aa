package archive

import (
	"context"
	"sync"
)

// order lets images be dealt with in the order in which they were named, whatever
// came first from the registry.
type order struct {
	mu    sync.Mutex
	ended map[int]bool
	first int           // the first that has not ended
	moved chan struct{} // closed when first changes
}

// wait waits until no more than ahead images before the nth have not ended.
func (o *order) wait(ctx context.Context, n, ahead int) error {
	for {
		o.mu.Lock()
		if o.moved == nil {
			o.moved = make(chan struct{})
		}
		ready, moved := n-o.first <= ahead, o.moved
		o.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// end notes that the nth image has ended, one way or another.
func (o *order) end(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended == nil {
		o.ended = make(map[int]bool)
	}
	o.ended[n] = true
	if !o.ended[o.first] {
		return
	}
	for o.ended[o.first] {
		delete(o.ended, o.first)
		o.first++
	}
	if o.moved != nil {
		close(o.moved)
		o.moved = nil
	}
}
