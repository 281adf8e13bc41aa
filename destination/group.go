package destination

import (
	"context"
	"errors"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// Group shares work between the images of a run. The first caller that asks for a key starts the
// work. Other callers wait for the same work, and later callers get its result. When no caller
// waits any more, the work is cancelled, and its result is forgotten. A caller that comes after
// that waits until the cancelled work has ended, and starts it again.
//
// Content that is missing, refused or damaged where the first caller has it from says nothing of
// the places where others have it. So one such image does not fail the others: a caller that
// names another origin starts the work again.
//
// The zero value is ready. A Group is safe for concurrent use.
type Group[T any] struct {
	// Drop is called with a result that came when no caller waited any more. Nil does
	// nothing.
	Drop func(T)

	mu    sync.Mutex
	calls map[digest.Digest]*call[T]
	wg    sync.WaitGroup
}

type call[T any] struct {
	origin  string
	waiters int
	cancel  context.CancelCauseFunc
	over    bool // no caller waits: it is being cancelled
	done    chan struct{}
	value   T
	err     error
}

// ErrUnwanted is the cause of the cancellation of work that no image needs any more.
var ErrUnwanted = errors.New("no image needs the layer any more")

// Do returns the result of fn for the key, and whether this caller started it. origin names where
// fn has the content from. The context of fn ends with base, or when no caller waits any more: it
// outlives ctx while another caller waits.
func (g *Group[T]) Do(ctx, base context.Context, key digest.Digest, origin string, fn func(context.Context) (T, error)) (value T, started bool, err error) {
	for {
		c, started, ended := g.join(base, key, origin, fn)
		select {
		case <-c.done:
			if ended {
				continue
			}
			g.leave(c)
			if c.origin != origin && ofContent(c.err) && ctx.Err() == nil {
				g.remove(key, c)
				continue
			}
			return c.value, started, c.err
		case <-ctx.Done():
			if !ended {
				g.leave(c)
			}
			return value, started, context.Cause(ctx)
		}
	}
}

// ofContent reports whether an error is about the content of a layer, and the same layer from
// elsewhere may have none.
func ofContent(err error) bool {
	switch fault.KindOf(err) {
	case fault.NotFound, fault.Denied, fault.Corrupt:
		return err != nil
	}
	return false
}

// remove removes a call that has failed, unless another one is in its place.
func (g *Group[T]) remove(key digest.Digest, c *call[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls[key] == c {
		delete(g.calls, key)
	}
}

// join finds or starts the call of a key. If ended is true, the call is being cancelled:
// the caller waits for its end and tries again. Otherwise the caller is one of the call's
// waiters, and leaves it in the end.
func (g *Group[T]) join(base context.Context, key digest.Digest, origin string, fn func(context.Context) (T, error)) (c *call[T], started, ended bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.calls[key]; ok {
		if !c.over {
			c.waiters++
		}
		return c, false, c.over
	}
	ctx, cancel := context.WithCancelCause(base)
	c = &call[T]{origin: origin, waiters: 1, cancel: cancel, done: make(chan struct{})}
	if g.calls == nil {
		g.calls = make(map[digest.Digest]*call[T])
	}
	g.calls[key] = c
	g.wg.Go(func() {
		value, err := fn(ctx)
		cancel(nil)
		g.mu.Lock()
		defer g.mu.Unlock()
		if c.over && err == nil && g.Drop != nil {
			g.mu.Unlock()
			g.Drop(value) // before another call can begin
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

func (g *Group[T]) leave(c *call[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.waiters--
	select {
	case <-c.done:
	default:
		if c.waiters == 0 {
			c.over = true
			c.cancel(ErrUnwanted)
		}
	}
}

// Forget drops the result of a call and returns it. It returns the zero value if there is
// no result, or the call failed.
func (g *Group[T]) Forget(key digest.Digest) (value T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.calls[key]
	if c == nil || c.over {
		return value
	}
	delete(g.calls, key)
	return c.value
}

// Values returns the results that the Group has. Call it when no call is running.
func (g *Group[T]) Values() (all []T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.calls {
		if c.err == nil {
			all = append(all, c.value)
		}
	}
	return all
}

// Wait returns when no call is running.
func (g *Group[T]) Wait() { g.wg.Wait() }
