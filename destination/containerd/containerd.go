package containerd

import (
	"context"
	"errors"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/destination/internal/imagestore"
	"github.com/fastpull/fastpull/image"
)

// daemon is a containerd that runs, and how this process reaches it.
type daemon struct {
	env     *destination.Env
	c       *containerdapi.Client
	name    string // of the snapshotter
	plugins containerdapi.Plugins
}

// Open connects to containerd. The error wraps [containerdapi.ErrUnavailable] if none
// answers.
func Open(ctx context.Context, env *destination.Env, o Options) (destination.Destination, error) {
	d, err := dial(ctx, env, o)
	if err != nil {
		return nil, err
	}
	return imagestore.Open(ctx, env, imagestore.Options{
		C: live{d.c, d.name},
		Info: destination.Info{
			Name:       d.c.String(),
			Platform:   image.Host(),
			PartialDir: d.partialDir(),
		},
		Lean:   o.NoContent,
		Rebase: d.name == imagestore.Overlayfs && d.plugins.Snapshotters[d.name].Has("rebase"),
		Look:   d.look,
		Advice: "make room there, or remove images (ctr images rm)",
	})
}

// dial connects to containerd, and chooses the namespace and the snapshotter.
func dial(ctx context.Context, env *destination.Env, o Options) (*daemon, error) {
	c, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	in, snaps, plugins, err := chooseNamespace(ctx, c, o)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &daemon{env: env, c: in, name: snaps.Name(), plugins: plugins}, nil
}
