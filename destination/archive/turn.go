package archive

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

// turns tell layers when they may be written.
type turns struct {
	mu   sync.Mutex
	come map[digest.Digest]chan struct{} // by key, closed when the layer may be written
}

// of returns a channel that is closed when the layer of the key may be written. It stays
// closed.
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

// take lets the layer of the key be written.
func (t *turns) take(key digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.at(key):
	default:
		close(t.at(key))
	}
}
