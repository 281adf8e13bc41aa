package destination

import (
	"context"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Spool shares the results of work on layers between images, for destinations that write one
// layer after the other. A result is closed when no image holds its key any more. The zero value
// is ready. A Spool is safe for concurrent use.
type Spool[T interface {
	comparable
	io.Closer
}] struct {
	results Group[T]
	once    sync.Once

	mu       sync.Mutex
	retained map[digest.Digest]int
}

// Retain keeps the results of the keys until drop is called.
func (s *Spool[T]) Retain(keys []digest.Digest) (drop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retained == nil {
		s.retained = make(map[digest.Digest]int)
	}
	for _, key := range keys {
		s.retained[key]++
	}
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		var none T
		for _, key := range keys {
			if s.retained[key]--; s.retained[key] > 0 {
				continue
			}
			delete(s.retained, key)
			if v := s.results.Forget(key); v != none {
				v.Close()
			}
		}
	})
}

// Get returns the result of the key, and makes it if there is none. The result belongs to
// the Spool. The caller retains the key. run is the context of the whole run; see [Group.Do].
func (s *Spool[T]) Get(ctx, run context.Context, key digest.Digest, origin string, make func(context.Context) (T, error)) (T, error) {
	s.once.Do(func() { s.results.Drop = func(v T) { v.Close() } })
	v, _, err := s.results.Do(ctx, run, key, origin, make)
	return v, err
}

// Wait returns when nothing is being made.
func (s *Spool[T]) Wait() { s.results.Wait() }

// Close waits for what is being made, and closes all results.
func (s *Spool[T]) Close() {
	s.results.Wait()
	for _, v := range s.results.Values() {
		v.Close()
	}
}

// Join returns a context that ends with ctx, and with other.
func Join(ctx, other context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}
