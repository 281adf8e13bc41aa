package decode

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/fastpull/fastpull/fault"
)

// MaxWindow is how many bytes of history one layer may ask for: the window of a zstd
// frame, the dictionary of an xz block. The layers of a run have that much in all.
const MaxWindow = 512 << 20

// Memory bounds the history that the decoders of zstd and xz keep. The layers of a run
// share one, like [Cores]. It is safe for concurrent use. Nil is a Memory of its own for
// each layer.
//
// A decoder takes the memory for its history before it starts, and waits while other
// layers have too much. A decoder that waits holds no memory, so that layers cannot block
// each other: a stream that needs more in its middle first gives back what it has.
type Memory struct {
	limit   int64
	history *semaphore.Weighted

	mu      sync.Mutex
	used    int64 // of history
	freed   int64 // given back, and perhaps not collected
	watched bool  // collect is running
}

// NewMemory returns a Memory with the given bytes of history, [MaxWindow] if that is 0.
func NewMemory(limit int64) *Memory {
	if limit <= 0 {
		limit = MaxWindow
	}
	return &Memory{limit: limit, history: semaphore.NewWeighted(limit)}
}

// orOwn returns m, or a new Memory for nil.
func (m *Memory) orOwn() *Memory {
	if m == nil {
		return NewMemory(0)
	}
	return m
}

// history has the name that a format gives to the history, and the option that makes it
// smaller.
type history struct{ name, smaller string }

var (
	zstdWindow   = history{"window", "zstd --long=29"}
	xzDictionary = history{"dictionary", "xz --lzma2=dict=512MiB"}
)

// tooMuch is the error of a stream that asks for more history than there is.
type tooMuch struct{ error }

func (t tooMuch) Unwrap() error { return t.error }

// take takes size bytes of history, and waits until they are free. The caller must hold none.
// It must call giveBack when nothing refers to the memory any more.
func (m *Memory) take(ctx context.Context, size uint64, what history) (giveBack func(), err error) {
	if size > uint64(m.limit) {
		return nil, tooMuch{fault.WithHint(
			fault.New(fault.Failed, "it asks for a %s of %s in memory, and the limit is %s", what.name, mebibytes(size), mebibytes(uint64(m.limit))),
			"build the image with layers that need less: %s makes the largest %s that fits", what.smaller, what.name)}
	}
	n := int64(size)
	if err := m.history.Acquire(ctx, n); err != nil {
		return nil, context.Cause(ctx)
	}
	m.mu.Lock()
	m.used += n
	// Memory that was given back is in use until the garbage collector has run.
	full := m.freed > 0 && m.used+m.freed > m.limit
	if full {
		m.freed = 0
	}
	if m.used >= muchHistory && !m.watched {
		m.watched = true
		go m.collect()
	}
	m.mu.Unlock()
	if full {
		debug.FreeOSMemory()
	}
	return sync.OnceFunc(func() {
		m.mu.Lock()
		m.used -= n
		m.freed += n
		m.mu.Unlock()
		m.history.Release(n)
	}), nil
}

// The garbage collector lets garbage grow until it is as large as the memory in use. With
// much history that would be as much again.
const (
	muchHistory = 64 << 20
	muchGarbage = 64 << 20
	lookEvery   = 20 * time.Millisecond
)

// collect runs the garbage collector earlier, while there is much history.
func (m *Memory) collect() {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	for range time.Tick(lookEvery) {
		m.mu.Lock()
		m.watched = m.used >= muchHistory
		done := !m.watched
		m.mu.Unlock()
		if done {
			return
		}
		if metrics.Read(heap); heap[0].Value.Uint64() > heap[1].Value.Uint64()+muchGarbage {
			runtime.GC()
		}
	}
}
