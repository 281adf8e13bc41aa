package pull

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"
)

// group shares work between images: the first that asks for a key starts it, the
// others wait for the same call, and its result is kept for those who come
// later. A call that nobody waits for any more is cancelled, and forgotten: who
// asks again starts it anew, after it has ended.
type group[T any] struct {
	mu    sync.Mutex
	calls map[digest.Digest]*call[T]
	wg    sync.WaitGroup
	drop  func(T) // what to do with a result that came when nobody waited any more
}

type call[T any] struct {
	waiters int
	cancel  context.CancelCauseFunc
	over    bool // nobody waits: it is being cancelled
	done    chan struct{}
	value   T
	err     error
}

var errUnwanted = errors.New("no image needs the layer any more")

// do returns the result of fn for the key, and whether this caller started it.
// fn runs on a context that outlives the caller's as long as somebody else
// waits, and ends with base.
func (g *group[T]) do(ctx, base context.Context, key digest.Digest, fn func(context.Context) (T, error)) (value T, started bool, err error) {
	for {
		c, started, ended := g.join(base, key, fn)
		select {
		case <-c.done:
			if ended {
				continue
			}
			g.leave(c)
			return c.value, started, c.err
		case <-ctx.Done():
			if !ended {
				g.leave(c)
			}
			return value, started, context.Cause(ctx)
		}
	}
}

// join finds or starts the call of a key. If the call is being cancelled, ended
// is true and the caller has to wait for its end and try again; else the caller
// is one of those it works for, and must leave it.
func (g *group[T]) join(base context.Context, key digest.Digest, fn func(context.Context) (T, error)) (c *call[T], started, ended bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.calls[key]; ok {
		if !c.over {
			c.waiters++
		}
		return c, false, c.over
	}
	ctx, cancel := context.WithCancelCause(base)
	c = &call[T]{waiters: 1, cancel: cancel, done: make(chan struct{})}
	if g.calls == nil {
		g.calls = make(map[digest.Digest]*call[T])
	}
	g.calls[key] = c
	g.wg.Go(func() {
		value, err := fn(ctx)
		cancel(nil)
		g.mu.Lock()
		defer g.mu.Unlock()
		if c.over && err == nil && g.drop != nil {
			g.mu.Unlock()
			g.drop(value) // before another call can begin
			g.mu.Lock()
		}
		c.value, c.err = value, err
		if c.over {
			delete(g.calls, key)
		}
		close(c.done)
	})
	return c, true, false
}

func (g *group[T]) leave(c *call[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.waiters--
	select {
	case <-c.done:
	default:
		if c.waiters == 0 {
			c.over = true
			c.cancel(errUnwanted)
		}
	}
}

// forget drops the result of a call and returns it; the zero value if it has none
// yet, or failed.
func (g *group[T]) forget(key digest.Digest) (value T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.calls[key]
	if c == nil || c.over {
		return value
	}
	delete(g.calls, key)
	return c.value
}

// values returns the results that the group has. No call may be running.
func (g *group[T]) values() (all []T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.calls {
		if c.err == nil {
			all = append(all, c.value)
		}
	}
	return all
}

// wait returns when no call is running any more.
func (g *group[T]) wait() { g.wg.Wait() }
