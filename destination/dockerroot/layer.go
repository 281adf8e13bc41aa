package dockerroot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// wanted is a layer that an image of the run needs, and its content.
type wanted struct {
	image.Layer
	ref     registry.Reference
	content *destination.Content
}

// made is a layer that is in the store, or staged and ready to be committed.
type made struct {
	wanted
	blob digest.Digest // the blob that was verified to hold it, "" if none was

	mu   sync.Mutex
	st   *overlay.Staged // nil when it is in the store
	size int64           // bytes of its files
	redo bool            // an entry replaced another one's content
	err  error           // of the commit
}

// extracted notes what the extraction of the layer has found.
func (m *made) extracted(stats unpack.Stats, env *destination.Env) {
	m.size, m.redo = stats.Size, stats.Replaced
	env.LeftOut.Add(stats)
}

// seal ends a layer that was extracted, and makes sure that Docker can save it.
func (m *made) seal(ctx context.Context) error {
	if err := m.st.Seal(); err != nil || !m.redo {
		return err
	}
	return m.st.Prove(ctx)
}

// commit makes the layer visible, if it is not. Its parent has to be visible. The blob
// that it came from is recorded before: a layer that is there is not fetched again, and
// its blob would stay unknown.
func (m *made) commit(ctx context.Context, s *overlay.Store) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.st == nil {
		return m.err
	}
	if m.err = m.record(ctx, s, m.wanted); m.err == nil {
		m.err = m.st.Commit(ctx, m.size)
	} else {
		m.err = errors.Join(m.err, m.st.Abort())
	}
	m.st = nil
	return m.err
}

// record notes that this repository has the layer as this blob, if the blob was verified
// to hold it. Of a blob that was not fetched only the manifest says so.
func (m *made) record(ctx context.Context, s *overlay.Store, l wanted) error {
	if m.blob != l.Blob.Digest {
		return nil
	}
	if err := s.PutBlob(ctx, l.Blob.Digest, l.DiffID, l.ref.Full()); err != nil {
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

// settle commits ready layers before their images are complete, once the run has met another
// process. That process may wait for a layer of this run, while this run waits for one of its
// layers. A committed layer blocks no process. A layer whose parent is not in the store yet
// stays uncommitted until the parent is there.
func (s *store) settle(ctx context.Context, met bool) {
	s.mu.Lock()
	s.eager = s.eager || met
	var ready []*made
	if s.eager {
		ready = slices.Clone(s.ready)
	}
	s.mu.Unlock()
	for again := true; again; {
		again = false
		ready = slices.DeleteFunc(ready, func(m *made) bool {
			if m.Parent != "" {
				if _, err := s.s.Layer(m.Parent); err != nil {
					return false
				}
			}
			// An error is kept for the images that need the layer.
			again = m.commit(ctx, s.s) == nil || again
			return true
		})
	}
}
