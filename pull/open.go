package pull

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/fault"
)

// open starts the destination.
func (r *run) open(ctx context.Context) (target, Destination, error) {
	if r.DryRun {
		return r.openPlan(ctx)
	}
	switch r.Kind {
	case Engine:
		return r.openEngine(ctx, "")
	case Store:
		return r.openStore("")
	case Archive:
		t, err := newArchiveTarget(r, r.Path)
		if err != nil {
			return nil, Destination{}, placed(err)
		}
		return t, Destination{Kind: Archive, Name: "archive " + r.Path}, nil
	case RootFS:
		t, err := newRootfsTarget(r, r.Path)
		if err != nil {
			return nil, Destination{}, placed(err)
		}
		return t, Destination{Kind: RootFS, Name: "directory " + t.dir}, nil
	}
	return auto(func(why string) (target, Destination, error) { return r.openEngine(ctx, why) }, r.openStore)
}

// auto opens the Engine where one answers, and else the store.
func auto(engine, store func(why string) (target, Destination, error)) (target, Destination, error) {
	t, dest, err := engine("it answers, and no other place was named")
	if errors.Is(err, daemon.ErrUnavailable) {
		if os.Getenv("DOCKER_HOST") != "" {
			return nil, dest, fault.WithHint(err, "DOCKER_HOST names this Engine; without one, use --store DIR, -o FILE or --rootfs DIR")
		}
		return store(err.Error())
	}
	return t, dest, err
}

// placed gives the errors of a place that cannot be written to their kind.
func placed(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.WithHint(fault.Wrap(fault.Denied, err), "run fastpull as root, or choose another place")
	case errors.Is(err, fs.ErrNotExist):
		return fault.WithHint(fault.Wrap(fault.NotFound, err), "the directory that it goes into has to be there")
	}
	return err
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
	return t, Destination{Kind: Store, Name: "store " + t.s.Dir(), Note: why, path: t.s.Dir()}, nil
}
