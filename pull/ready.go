package pull

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/overlay"
)

// made is a layer that is in the store, or ready to be committed.
type made struct {
	layerOf
	fetched atomic.Int64  // bytes, from the registry, that no image has claimed
	blob    digest.Digest // the blob that was verified to hold it, "" if none was

	mu   sync.Mutex
	st   *overlay.Staged // nil when it is in the store
	size int64           // bytes of its files
	err  error           // of the commit
}

// waits tells if the layer is ready, and not in the store yet.
func (m *made) waits() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.st != nil
}

// commit makes the layer visible, if it is not. Its parent has to be. What blob
// it came from is recorded before: a layer that is there is not fetched again, and
// nobody could say it later.
func (m *made) commit(ctx context.Context, s *overlay.Store) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.st == nil {
		return m.err
	}
	if m.err = m.record(ctx, s, m.layerOf); m.err == nil {
		m.err = m.st.Commit(ctx, m.size)
	} else {
		m.err = errors.Join(m.err, m.st.Abort())
	}
	m.st = nil
	return m.err
}

// record notes that the layer is to be had as this blob of this repository, if it
// was seen to hold it: of a blob that was not fetched only the manifest says so.
func (m *made) record(ctx context.Context, s *overlay.Store, l layerOf) error {
	if m.blob != l.Blob.Digest {
		return nil
	}
	if err := s.PutBlob(ctx, l.Blob.Digest, l.DiffID, sourceRepository(l.ref)); err != nil {
		return fmt.Errorf("record layer %s: %w", l.Blob.Digest, err)
	}
	return nil
}

// abort throws the layer away, unless it is in the store.
func (m *made) abort() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.st == nil {
		return nil
	}
	err := m.st.Abort()
	m.st = nil
	return err
}

// settle commits the layers that are ready before their images are, once another
// process was met: it may wait for a layer that is ready here while this one
// waits for one of its, and a layer that is committed is waited for no longer.
// A layer whose parent is not there has to wait, and gets its turn when it is.
func (t *storeTarget) settle(met bool) {
	t.mu.Lock()
	t.eager = t.eager || met
	var ready []*made
	if t.eager {
		ready = slices.Clone(t.ready)
	}
	t.mu.Unlock()
	for again := true; again; {
		again = false
		ready = slices.DeleteFunc(ready, func(m *made) bool {
			if m.Parent != "" {
				if _, err := t.s.Layer(m.Parent); err != nil {
					return false
				}
			}
			if m.waits() && t.r.flush(t.r.ctx, t.s.Dir()) != nil {
				return true // its images will say why
			}
			// An error is kept for the images that need the layer.
			again = m.commit(t.r.ctx, t.s) == nil || again
			return true
		})
	}
}
