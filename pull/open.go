package pull

import (
	"context"
	"errors"
	"fmt"

	"github.com/fastpull/fastpull/daemon"
)

// open starts the destination.
func (r *run) open(ctx context.Context) (target, Destination, error) {
	switch r.Kind {
	case Engine:
		return r.openEngine(ctx, "")
	case Store:
		return r.openStore("")
	case Archive:
		t, err := newArchiveTarget(r, r.Path)
		if err != nil {
			return nil, Destination{}, err
		}
		return t, Destination{Kind: Archive, Name: "archive " + r.Path}, nil
	case RootFS:
		t, err := newRootfsTarget(r, r.Path)
		if err != nil {
			return nil, Destination{}, err
		}
		return t, Destination{Kind: RootFS, Name: "directory " + t.dir}, nil
	}
	t, dest, err := r.openEngine(ctx, "it answers; --store DIR would be faster")
	if errors.Is(err, daemon.ErrUnavailable) {
		return r.openStore(fmt.Sprintf("no Docker Engine answers: %v", err))
	}
	return t, dest, err
}

func (r *run) openEngine(ctx context.Context, why string) (target, Destination, error) {
	e, err := daemon.Connect(ctx, daemon.Options{Host: r.Host})
	if err != nil {
		return nil, Destination{}, err
	}
	t, err := newEngineTarget(ctx, r, e)
	if err != nil {
		return nil, Destination{}, errors.Join(err, e.Close())
	}
	return t, Destination{Kind: Engine, Name: e.String(), Note: why}, nil
}

func (r *run) openStore(why string) (target, Destination, error) {
	t, err := newStoreTarget(r, r.Path)
	if err != nil {
		return nil, Destination{}, err
	}
	return t, Destination{Kind: Store, Name: "store " + t.s.Dir(), Note: why}, nil
}
