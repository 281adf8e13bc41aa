package dockerroot

import (
	"context"
	"errors"
	"io"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/unpack"
)

// tx brings one image into the store.
type tx struct {
	s      *store
	img    *destination.Image
	layers []wanted
}

// Begin implements [destination.Destination].
func (s *store) Begin(ctx context.Context, img *destination.Image) (destination.Tx, error) {
	t := &tx{s: s, img: img}
	if img.Content != nil {
		t.register()
		if err := image.CheckDocker29(img.Image); err != nil {
			s.env.Progress.Warn("%s: Docker 29 and later do not show this image: %v", img.Ref, err)
		}
	}
	for _, l := range img.Layers {
		if err := s.s.Use(ctx, l.ChainID); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// register notes which layers fetch a blob. If the same layer is needed on two parents, the
// first one registered fetches the blob, and the other is copied from it.
func (t *tx) register() {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	t.layers = make([]wanted, len(t.img.Layers))
	for i, l := range t.img.Layers {
		t.layers[i] = wanted{l, t.img.Ref, t.img.Content(l)}
		if _, ok := t.s.first[l.DiffID]; !ok {
			t.s.first[l.DiffID] = t.layers[i]
		}
	}
}

// Layers implements [destination.Tx]. All layers take part: those that are there already
// are shown, and those that are fetched for another image are waited for.
func (t *tx) Layers() []destination.Layer {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	list := make([]destination.Layer, len(t.layers))
	for i, l := range t.layers {
		list[i].Layer = l.Layer
		if t.s.first[l.DiffID].ChainID == l.ChainID && len(missing(t.s.s, []image.Layer{l.Layer})) > 0 {
			list[i].Left = l.Blob.Size
		}
	}
	return list
}

// Space implements [destination.Tx].
func (t *tx) Space() *disk.Space { return t.s.space }

// Layer implements [destination.Tx].
func (t *tx) Layer(ctx context.Context, l image.Layer, c *destination.Content) error {
	_, err := t.s.need(ctx, wanted{l, t.img.Ref, c})
	return err
}

// need waits until the layer is in the store, or ready to be committed.
func (s *store) need(ctx context.Context, l wanted) (*made, error) {
	m, _, err := s.layers.Do(ctx, s.run, l.ChainID, l.content.Origin(), func(ctx context.Context) (*made, error) {
		m, err := s.make(ctx, l)
		s.space.SetLeft(l.Blob.Digest, 0) // however the layer came
		defer s.settle(s.run, false)
		if errors.Is(err, overlay.ErrExists) {
			l.content.Task().Phase(progress.Exists)
			return &made{}, nil
		}
		l.content.End(ctx, err)
		return m, err
	})
	return m, err
}

// make stages a layer, or returns overlay.ErrExists.
func (s *store) make(ctx context.Context, l wanted) (_ *made, err error) {
	l.content.Task() // shown while it waits
	if _, err := s.s.Layer(l.ChainID); err == nil {
		return nil, overlay.ErrExists
	}
	s.mu.Lock()
	first := s.first[l.DiffID]
	s.mu.Unlock()
	var twin *made
	if first.ChainID != l.ChainID {
		if twin, err = s.need(ctx, first); err != nil && !l.content.MayDiffer(ctx, first.content, err) {
			return nil, err
		}
	}
	st, err := s.s.Begin(ctx, l.ChainID, l.Parent, l.DiffID, func() {
		s.env.Progress.Note("another fastpull is working on layer %.19s, waiting for it", l.Blob.Digest)
		s.settle(s.run, true)
	})
	if err != nil {
		return nil, err
	}
	m := &made{wanted: l, st: st}
	copied, err := s.copyTwin(ctx, m, twin)
	if err == nil && !copied {
		err = s.fetch(ctx, m)
	}
	if err == nil {
		err = m.seal(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, st.Abort())
	}
	s.mu.Lock()
	s.ready = append(s.ready, m)
	s.mu.Unlock()
	return m, nil
}

// fetch extracts the layer from its source.
func (s *store) fetch(ctx context.Context, m *made) error {
	var stats unpack.Stats
	err := m.content.Plain(ctx, destination.How{Space: s.space}, func(tar io.Reader) (err error) {
		stats, err = s.extract(ctx, tar, m.st)
		return err
	})
	if err != nil {
		return err
	}
	m.blob = m.Blob.Digest
	m.extracted(stats, s.env)
	return nil
}

// extract unpacks a layer into its staging directory, which it clears first.
func (s *store) extract(ctx context.Context, tar io.Reader, st *overlay.Staged) (unpack.Stats, error) {
	if err := st.Clear(); err != nil {
		return unpack.Stats{}, err
	}
	return unpack.Extract(ctx, tar, st.Dir(), unpack.ExtractOptions{
		Whiteouts: s.s.Whiteouts(),
		TarSplit:  st.TarSplit(),
		Wrote:     st.Wrote,
		Rootless:  s.env.Rootless(),
		Names:     s.env.Names,
	})
}

// openTwin opens the tar of a layer that this run has made on another parent, or that the
// store has, made again from its files. It returns nil if there is none.
func (s *store) openTwin(m, twin *made) (io.ReadCloser, error) {
	if twin != nil {
		twin.mu.Lock()
		defer twin.mu.Unlock()
		if twin.st != nil {
			return twin.st.Tar()
		}
	}
	if same, ok := s.s.Same(m.DiffID); ok {
		return s.s.Tar(same)
	}
	return nil, nil
}

// copyTwin makes the layer from a twin in the store, if there is one.
func (s *store) copyTwin(ctx context.Context, m, twin *made) (copied bool, err error) {
	release, err := m.content.Slot(ctx)
	if err != nil {
		return false, err
	}
	defer release()
	tar, err := s.openTwin(m, twin)
	if tar == nil && err == nil {
		return false, nil
	}
	if err == nil {
		defer tar.Close()
		m.content.Task().Phase(progress.Extracting)
		sum := m.DiffID.Verifier()
		var stats unpack.Stats
		stats, err = s.extract(ctx, io.TeeReader(tar, sum), m.st)
		if err == nil && !sum.Verified() {
			err = errors.New("its files are not what they were")
		}
		if err == nil {
			m.extracted(stats, s.env)
			return true, nil
		}
	}
	if ctx.Err() != nil || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return false, err
	}
	s.env.Progress.Note("layer %.19s of the store cannot be used again, fetching it: %v", m.DiffID, err)
	return false, nil
}

// Commit implements [destination.Tx].
func (t *tx) Commit(ctx context.Context) error {
	all := make([]*made, len(t.layers))
	for i, l := range t.layers {
		var err error
		if all[i], err = t.s.need(ctx, l); err != nil { // it is ready, and kept
			return err
		}
	}
	for i, l := range t.layers {
		if err := all[i].commit(ctx, t.s.s); err != nil {
			return err
		}
		if err := all[i].record(ctx, t.s.s, l); err != nil {
			return err
		}
	}
	ref := t.img.Ref
	err := t.s.s.PutImage(ctx, t.img.Image, ref.Familiar(), append(ref.FamiliarTags(), ref.Familiar()+"@"+t.img.Found.String()))
	if errors.Is(err, overlay.ErrGone) {
		return destination.ErrGone
	}
	return err
}

// Abort implements [destination.Tx]. Staged layers stay for other images of the run, until
// the store is closed.
func (t *tx) Abort() error { return nil }
