package archive

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
)

// TestOrder has many begin and end at random: none begins with more before it than
// may be.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		for _, ahead := range []int{0, 1, 3} {
			var o order
			var mu sync.Mutex
			ended := make([]bool, n)
			var g sync.WaitGroup
			for _, i := range rand.Perm(n) {
				g.Go(func() {
					if i%7 != 3 { // some never ask
						if err := o.wait(t.Context(), i, ahead); err != nil {
							t.Error(err)
						}
						mu.Lock()
						open := 0
						for _, e := range ended[:i] {
							if !e {
								open++
							}
						}
						// Those between may have ended before, but what counts is the first.
						if open > ahead {
							t.Errorf("%d begins with %d before it", i, open)
						}
						mu.Unlock()
					}
					mu.Lock()
					ended[i] = true
					mu.Unlock()
					o.end(i)
				})
			}
			g.Wait()
		}
	})
}

func TestOrderCancelled(t *testing.T) {
	var o order
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if err := o.wait(ctx, 0, 0); err != nil {
		t.Errorf("the first waits: %v", err)
	}
	if err := o.wait(ctx, 1, 0); !errors.Is(err, why) {
		t.Errorf("error: %v", err)
	}
}
