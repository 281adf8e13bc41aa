package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// wanted is a layer that an image of the run needs, and its content.
type wanted struct {
	image.Layer
	ref     registry.Reference
	content *destination.Content
}

// key names the work on a layer. Two blobs may have the same layer, and a blob may be on
// several parents.
func (l wanted) key() digest.Digest { return l.ChainID + "=" + l.Blob.Digest }

// made is a layer whose blob is in containerd, and whose snapshot is there or can be
// committed.
type made struct {
	wanted
	by *made // makes the snapshot, if it is another one

	mu  sync.Mutex
	st  staged // nil if the snapshot is there
	err error  // of the commit
}

// waits reports whether the snapshot is still to be committed.
func (m *made) waits() bool {
	if m.by != nil {
		return m.by.waits()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.st != nil
}

// commit makes the snapshot visible, if it is not. Its parent has to be visible.
func (m *made) commit(ctx context.Context) error {
	if m.by != nil {
		return m.by.commit(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.st == nil {
		return m.err
	}
	err := m.st.commit(ctx)
	m.st.abort()
	m.st = nil
	if err != nil && !errdefs.IsAlreadyExists(err) { // another process was first
		m.err = fmt.Errorf("layer %s: make a snapshot in containerd: %w", m.Blob.Digest, err)
	}
	return m.err
}

// abort throws the layer away, unless its snapshot is there.
func (m *made) abort() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.st != nil {
		m.st.abort()
		m.st = nil
	}
}

// need waits until the layer's blob is in containerd, and its snapshot is there or can be
// committed.
func (s *store) need(ctx context.Context, l wanted) (*made, error) {
	m, _, err := s.layers.Do(ctx, s.run, l.key(), l.content.Origin(), func(ctx context.Context) (*made, error) {
		m, existed, err := s.make(ctx, l)
		s.space.SetLeft(l.Blob.Digest, 0) // however the layer came
		if err != nil {
			s.litter.Store(true)
		}
		if existed {
			l.content.Task().Phase(progress.Exists)
		} else {
			l.content.End(ctx, err)
		}
		return m, err
	})
	return m, err
}

// make makes a layer, or finds that it existed.
func (s *store) make(ctx context.Context, l wanted) (m *made, existed bool, err error) {
	l.content.Task() // shown while it waits
	m = &made{wanted: l}
	if m.by, err = s.earlier(ctx, l); err != nil {
		return nil, false, err
	}
	unpacked := m.by != nil
	if !unpacked {
		if unpacked, err = s.leaseSnapshot(ctx, l.ChainID); err != nil {
			return nil, false, err
		}
	}
	b, err := s.openBlob(ctx, l)
	if err != nil {
		return nil, false, err
	}
	if unpacked && (b.there || b.skipped) {
		return m, true, nil
	}
	if !unpacked {
		m.st = s.stage(l.Layer)
	}
	if err := s.fetch(ctx, m, b); err != nil {
		m.abort()
		return nil, false, err
	}
	return m, false, nil
}

// earlier waits for layers of the run that came before l and make the same blob or the same
// snapshot. It returns the one that makes the snapshot, nil if that is l. An error of the content
// of another blob or repository is none of l.
func (s *store) earlier(ctx context.Context, l wanted) (by *made, err error) {
	s.mu.Lock()
	chain, blob := s.chains[l.ChainID], s.blobs[l.Blob.Digest]
	s.mu.Unlock()
	if blob.key() != l.key() {
		if _, err := s.need(ctx, blob); err != nil && !l.content.MayDiffer(ctx, blob.content, err) {
			return nil, err
		}
	}
	if chain.key() != l.key() {
		by, err := s.need(ctx, chain)
		if err != nil && !l.content.MayDiffer(ctx, chain.content, err) {
			return nil, err
		}
		return by, nil
	}
	return nil, nil
}

// register notes which layer of the run makes what. A layer only waits for layers that were
// registered before.
func (s *store) register(layers []wanted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range layers {
		if _, ok := s.chains[l.ChainID]; !ok {
			s.chains[l.ChainID] = l
		}
		if _, ok := s.blobs[l.Blob.Digest]; !ok {
			s.blobs[l.Blob.Digest] = l
		}
	}
}

// stage returns what makes a snapshot of the layer.
func (s *store) stage(l image.Layer) staged {
	if s.reach.Snapshots == "" {
		return &applied{s: s, l: l}
	}
	return &tree{s: s, l: l}
}

// leaseSnapshot adds a snapshot to the lease, and reports whether the snapshot exists.
func (s *store) leaseSnapshot(ctx context.Context, chainID digest.Digest) (bool, error) {
	if err := s.snaps.Lease(ctx, chainID.String()); err != nil {
		return false, fmt.Errorf("lease a snapshot in containerd: %w", err)
	}
	return s.committed(ctx, chainID)
}

// fetch fetches the missing parts of a layer: its blob, its files, or both.
func (s *store) fetch(ctx context.Context, m *made, b *blob) (err error) {
	how := destination.How{Space: s.space}
	fill := func(tar io.Reader) error { return m.st.fill(ctx, tar) }
	take := func(r io.Reader) error { return b.take(ctx, r) }
	switch {
	case !b.there && b.moves:
		err = s.fetchAndMove(ctx, m, b, how, fill)
	case m.st == nil:
		err = m.content.Blob(ctx, how, func(r io.Reader, _ bool) error { return take(r) })
	case b.there:
		how.Have = func(ctx context.Context) (fetch.Blob, error) { return s.openStored(ctx, m.Blob.Digest) }
		err = m.content.Plain(ctx, how, fill)
	case b.skipped:
		err = m.content.Plain(ctx, how, fill)
	default:
		err = m.content.Both(ctx, how, take, fill)
	}
	if err != nil {
		return errors.Join(err, b.close())
	}
	labels := make(map[string]string)
	if m.st != nil { // the tar was verified
		labels["containerd.io/uncompressed"] = m.DiffID.String()
	}
	return b.finish(ctx, labels)
}
