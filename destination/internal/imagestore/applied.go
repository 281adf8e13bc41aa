package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// applied is a layer that containerd unpacks. Its plain tar is in the content store until
// then, where only the lease of the run keeps it.
type applied struct {
	s    *store
	l    image.Layer
	size int64  // of the plain tar
	key  string // of the snapshot that it is unpacked into, "" if there is none
}

// fill implements [staged].
func (a *applied) fill(ctx context.Context, tar io.Reader) error {
	a.s.litter.Store(true) // the plain tar
	w, err := a.s.c.WriteBlob(ctx, "fastpull-"+a.s.key(a.l.ChainID), a.l.DiffID, 0)
	if errdefs.IsAlreadyExists(err) {
		a.size, err = io.Copy(io.Discard, tar)
		return err
	}
	if err != nil {
		return fmt.Errorf("give the plain layer to containerd: %w", err)
	}
	defer w.Close()
	if a.size, err = w.ReadFrom(tar); err == nil {
		err = w.Commit(a.l.DiffID, nil)
	}
	return err
}

// commit implements [staged].
func (a *applied) commit(ctx context.Context) error {
	key := a.s.key(a.l.ChainID)
	mounts, err := a.s.snaps.Prepare(ctx, key, a.l.Parent.String(), labels(a.l))
	if err != nil {
		return err
	}
	a.key = key
	unpacker, ok := a.s.c.(Unpacker)
	if !ok {
		return fmt.Errorf("unpack it: %w", errors.ErrUnsupported)
	}
	got, err := unpacker.Apply(ctx, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: a.l.DiffID, Size: a.size}, mounts)
	if err != nil {
		return fmt.Errorf("containerd cannot unpack it: %w", err)
	}
	if got != a.l.DiffID {
		return fault.New(fault.Corrupt, "containerd has unpacked %s", got)
	}
	if err := a.s.snaps.Commit(ctx, a.l.ChainID.String(), key, "", labels(a.l)); err != nil {
		return err
	}
	a.key = ""
	return nil
}

// abort implements [staged].
func (a *applied) abort() {
	if a.key == "" {
		return
	}
	ctx, cancel := a.s.after()
	defer cancel()
	if a.s.snaps.Remove(ctx, a.key) == nil {
		a.key = ""
	}
}
