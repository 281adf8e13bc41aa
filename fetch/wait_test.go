package fetch

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fastpull/fastpull/progress"
)

// coming is a blob on its way into a file.
type coming struct {
	Blob
	came chan struct{}
	here atomic.Int64
	size int64
}

func (c *coming) Came() <-chan struct{}    { return c.came }
func (c *coming) Whole() (n int64, _ bool) { n = c.here.Load(); return n, n == c.size }

// TestAwait: a blob comes while others are written, without a slot as soon as it is
// there, and every byte of it is told of once.
func TestAwait(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	turn := make(chan struct{})
	var told, released atomic.Int64
	task := (*progress.Display)(nil).Task("layer", 100)
	begin := func(ctx context.Context, b *coming) (*counter, chan error) {
		told.Store(0)
		released.Store(0)
		a := &counter{report: func(n int64) { told.Add(n) }}
		done := make(chan error, 1)
		go func() { done <- await(ctx, b, turn, a, task, func() { released.Add(1) }) }()
		return a, done
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			if ctx.Err() != nil {
				t.Fatal(what)
			}
			time.Sleep(time.Millisecond)
		}
	}

	b := &coming{came: make(chan struct{}), size: 100}
	a, done := begin(ctx, b)
	b.here.Store(60)
	until("60 bytes are not told of", func() bool { return told.Load() == 60 })
	if released.Load() != 0 {
		t.Error("the slot is given back while bytes come")
	}
	b.here.Store(100)
	close(b.came)
	until("the slot is not given back", func() bool { return released.Load() == 1 })
	select {
	case err := <-done:
		t.Fatalf("its turn has not come: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(turn)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for range 4 {
		a.read(30) // more than the 100 that were told of
	}
	if n := told.Load(); n != 120 {
		t.Errorf("%d bytes of 120 were told of", n)
	}

	// Its turn has come before.
	if _, done := begin(ctx, &coming{came: make(chan struct{}), size: 100}); <-done != nil {
		t.Error("it waits for a turn that has come")
	}

	turn = make(chan struct{})
	gone, end := context.WithCancelCause(ctx)
	_, done = begin(gone, &coming{came: make(chan struct{}), size: 100})
	why := errors.New("stopped")
	end(why)
	if err := <-done; err != why {
		t.Errorf("stopped: %v", err)
	}

	// The reader reports bytes that are missing, and must not wait for them.
	broken := &coming{came: make(chan struct{}), size: 100}
	close(broken.came)
	if _, done := begin(ctx, broken); <-done != nil || released.Load() != 0 {
		t.Error("it waits with a blob that does not come")
	}
	if _, done := begin(ctx, &coming{}); <-done != nil {
		t.Error("it waits with a blob that nobody keeps")
	}
}
