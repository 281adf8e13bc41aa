package registry

import (
	"context"
	"errors"
	"time"
)

// A connection may work and still be much slower than it should be, for reasons that neither end
// sees. Among several connections for one blob this shows. A slow connection is closed, and
// another one downloads the rest of its part.
const (
	slowAfter = 3 * time.Second // a connection has that long to show what it can do
	slowShare = 8               // and is slow if it brings less than this part of what the others do
	slowMost  = 8               // times for a blob: it may be as it is
)

// errSlowRange ends a part that is downloaded much more slowly than the others.
var errSlowRange = errors.New("this connection is much slower than the others")

// spent is what connections have brought, and the time that they took for it.
type spent struct {
	bytes int64
	time  time.Duration
}

func (s *spent) add(other spent) { s.bytes += other.bytes; s.time += other.time }

func (s spent) rate() float64 { return float64(s.bytes) / max(s.time.Seconds(), 1e-3) }

// spent returns the bytes and the time of a part so far. The mutex of its transfer is held.
func (c *claim) spent(now time.Time) spent { return spent{c.came, now.Sub(c.begun)} }

// endSlow ends parts that come slowly, until ctx ends.
func (t *transfer) endSlow(ctx context.Context) {
	after := t.client.slowAfter
	tick := time.NewTicker(after / 4)
	defer tick.Stop()
	for ended := 0; ended < slowMost; {
		select {
		case now := <-tick.C:
			if c := t.slowest(now, after); c != nil {
				c.cancel(errSlowRange)
				ended++
			}
		case <-ctx.Done():
			return
		}
	}
}

// slowest returns a part that is much slower than the average of all others, or nil.
func (t *transfer) slowest(now time.Time, after time.Duration) *claim {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.done
	for _, c := range t.parts {
		all.add(c.spent(now))
	}
	for _, c := range t.parts {
		own := c.spent(now)
		others := spent{all.bytes - own.bytes, all.time - own.time}
		if own.time >= after && others.bytes >= 2*minChunk && own.rate() < others.rate()/slowShare {
			return c
		}
	}
	return nil
}
