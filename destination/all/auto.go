package all

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/destination/containerd"
	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/destination/engine"
	"github.com/fastpull/fastpull/destination/podman"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Auto opens the Engine that answers, or else the containerd that does, or else the store of
// Podman, CRI-O and Buildah if they have used it, or else the store at dir. An Engine that has
// its images in a containerd gets them there, if that may be used.
func Auto(dir string, o Options) Opener {
	return func(ctx context.Context, env *destination.Env) (destination.Destination, string, error) {
		return auto(ctx, env, dir, o)
	}
}

func auto(ctx context.Context, env *destination.Env, dir string, o Options) (d destination.Destination, why string, err error) {
	api, err := daemon.Connect(ctx, daemon.Options{Host: o.Engine.Host})
	switch {
	case err == nil:
		return ofEngine(ctx, env, api, o)
	case !errors.Is(err, daemon.ErrUnavailable):
		return nil, "", err
	case os.Getenv("DOCKER_HOST") != "":
		return nil, "", fault.WithHint(err, "DOCKER_HOST names this Engine; without one, use --store DIR, --containerd, -o FILE or --rootfs DIR")
	}
	why = err.Error()
	d, err = containerd.Open(ctx, env, o.Containerd)
	switch {
	case err == nil:
		return d, why, nil
	case !errors.Is(err, containerdapi.ErrUnavailable) && fault.KindOf(err) != fault.Denied, os.Getenv("CONTAINERD_ADDRESS") != "":
		return nil, "", err
	}
	if fault.KindOf(err) == fault.Denied {
		why += "; and not containerd: " + checkup.Plain(err)
	}
	switch root, err := podman.Used(ctx); {
	case err != nil:
		why += "; and not Podman's store: " + checkup.Plain(err)
	case root != "":
		d, err = podman.Open(ctx, env, podman.Default)
		return d, why + "; and Podman has images there", err
	}
	d, err = dockerroot.Open(ctx, env, dir)
	return d, why, err
}

// ofEngine opens an Engine, or the containerd that has its images.
func ofEngine(ctx context.Context, env *destination.Env, api *daemon.Engine, o Options) (d destination.Destination, why string, err error) {
	why = "it answers, and no other place was named"
	if facts := api.Facts(); facts.Containerd != "" && api.Local() {
		d, err = containerd.Open(ctx, env, containerd.Options{Address: facts.Containerd, Namespace: facts.Namespace, Snapshotter: facts.Driver})
		if err == nil {
			return d, fmt.Sprintf("the %s has its images there", api), api.Close()
		}
		if ctx.Err() != nil {
			return nil, "", errors.Join(err, api.Close())
		}
		why += fmt.Sprintf("; its containerd cannot be used directly: %v", err)
	}
	d, err = engine.Use(ctx, env, api, o.Engine)
	return d, why, err
}

// checkContainerd checks the containerd that has the Engine's images, if no other one was
// named: a way into the Engine.
func checkContainerd(ctx context.Context, m *destination.Machine, address string) []checkup.Finding {
	api, err := m.Engine(ctx)
	if address != "" || err != nil || api.Facts().Containerd == "" || !api.Local() {
		return containerd.Check(ctx, m, address)
	}
	list := containerd.Check(ctx, m, api.Facts().Containerd)
	for i, f := range list {
		if f.Level == checkup.OK {
			list[i].Text += "; the Docker Engine has its images there, and sees new ones at once: that is the way into it, without a restart"
		}
	}
	return list
}
