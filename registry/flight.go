package registry

import (
	"context"
	"sync"
)

// flight makes the value for a key once, however many callers ask for it at the same time, and
// keeps it. A failure is returned to all waiting callers, and not kept. The zero value is
// ready.
type flight[K, V comparable] struct {
	mu    sync.Mutex
	calls map[K]*call[V]
}

type call[V any] struct {
	done      chan struct{} // closed once the fields below are set
	val       V
	err       error
	abandoned bool // the caller that made it gave up: no result for the others
}

// do returns the value for key, made by fn in one of its callers. It ends with
// ctx; when the caller that runs fn leaves, one of the others takes over.
func (f *flight[K, V]) do(ctx context.Context, key K, fn func(context.Context) (V, error)) (V, error) {
	for {
		f.mu.Lock()
		c, found := f.calls[key]
		if !found {
			c = &call[V]{done: make(chan struct{})}
			if f.calls == nil {
				f.calls = map[K]*call[V]{}
			}
			f.calls[key] = c
		}
		f.mu.Unlock()

		if !found {
			c.val, c.err = fn(ctx)
			c.abandoned = c.err != nil && ctx.Err() != nil
			if c.err != nil {
				f.mu.Lock()
				delete(f.calls, key)
				f.mu.Unlock()
			}
			close(c.done)
			return c.val, c.err
		}
		select {
		case <-c.done:
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
		if !c.abandoned {
			return c.val, c.err
		}
	}
}

// forget drops the value for key if it is still stale. So only the first of many callers that
// find it useless makes a new one.
func (f *flight[K, V]) forget(key K, stale V) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.calls[key]
	if c == nil {
		return
	}
	select {
	case <-c.done:
		if c.val == stale {
			delete(f.calls, key)
		}
	default: // being made anew
	}
}

// values returns what has been made so far.
func (f *flight[K, V]) values() []V {
	f.mu.Lock()
	defer f.mu.Unlock()
	var vals []V
	for _, c := range f.calls {
		select {
		case <-c.done:
			vals = append(vals, c.val)
		default:
		}
	}
	return vals
}
