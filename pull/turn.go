package pull

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/progress"
)

// turns tell layers when it is their turn to be written.
type turns struct {
	mu   sync.Mutex
	come map[digest.Digest]chan struct{} // by key, closed when it has
}

// of returns what is closed when it is the key's turn, and stays so.
func (t *turns) of(key digest.Digest) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at(key)
}

func (t *turns) at(key digest.Digest) chan struct{} {
	if t.come == nil {
		t.come = make(map[digest.Digest]chan struct{})
	}
	if t.come[key] == nil {
		t.come[key] = make(chan struct{})
	}
	return t.come[key]
}

// take says that it is the key's turn.
func (t *turns) take(key digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.at(key):
	default:
		close(t.at(key))
	}
}

// tellEvery is how often it is told what has come of a blob that nobody reads.
const tellEvery = 100 * time.Millisecond

// arrived counts what has come of a blob, for those who are told of it.
type arrived struct {
	tell func(n int64)
	told int64 // of what the reader has yet to count
}

// upTo tells of n bytes in all, of which the reader has counted none.
func (a *arrived) upTo(n int64) {
	if n > a.told {
		a.tell(n - a.told)
		a.told = n
	}
}

// read counts n bytes for the reader.
func (a *arrived) read(n int64) {
	known := min(a.told, n)
	a.told -= known
	if n > known {
		a.tell(n - known)
	}
}

// await lets a blob come into its file until it is its turn to be read. Whoever
// waits has no slot, but for as long as the blob is on its way. There is nothing to
// wait for where no file takes the blob.
func await(ctx context.Context, b blob, turn <-chan struct{}, a *arrived, task *progress.Task, release func()) error {
	came := b.Came()
	if came == nil || turn == nil {
		return nil
	}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-turn:
			return nil
		default:
		}
		select {
		case <-turn:
			return nil
		case <-came:
			n, whole := b.Whole()
			if !whole {
				return nil // who reads it learns why
			}
			a.upTo(n)
			task.Phase(progress.Waiting)
			release()
			came = nil
		case <-tick.C:
			n, _ := b.Whole()
			a.upTo(n)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
