package destination

import (
	"context"
	"time"
)

// Outlive returns a context that ends with ctx, or, if goesOn is true then, up to grace later. It
// is for work that must not be interrupted once it has begun. Call the second value when the work
// is done.
func Outlive(ctx context.Context, goesOn func() bool, grace time.Duration) (context.Context, context.CancelFunc) {
	long, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		if goesOn() {
			select {
			case <-long.Done():
			case <-time.After(grace):
			}
		}
		cancel(context.Cause(ctx))
	})
	return long, func() {
		stop()
		cancel(nil)
	}
}
