// Package all has the table of all destinations. A new destination is a folder of its own
// below destination, and an entry here.
package all

import (
	"cmp"
	"context"
	"slices"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/destination/archive"
	"github.com/fastpull/fastpull/destination/containerd"
	"github.com/fastpull/fastpull/destination/containerdroot"
	"github.com/fastpull/fastpull/destination/dockerroot"
	"github.com/fastpull/fastpull/destination/engine"
	"github.com/fastpull/fastpull/destination/null"
	"github.com/fastpull/fastpull/destination/podman"
	"github.com/fastpull/fastpull/destination/rootfs"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Table has the destinations in the order of the help.
var Table = []Entry{
	{
		Name:  "store",
		Usage: "put images into the store at `DIR`, a data-root of Docker with overlay2;\nalso a stopped Docker's own",
		Open: func(ctx context.Context, env *destination.Env, dir string, o *Options) (destination.Destination, error) {
			if o.Stage {
				return dockerroot.Stage(ctx, env, dir)
			}
			return dockerroot.Open(ctx, env, dir)
		},
		Check: dockerroot.Check,
	},
	{
		Name:  "load",
		Usage: "load images into the Docker Engine (DOCKER_HOST is honoured)",
		Open: func(ctx context.Context, env *destination.Env, _ string, o *Options) (destination.Destination, error) {
			return engine.Open(ctx, env, o.Engine)
		},
		Check: engine.Check,
	},
	{
		Name: "restart-engine", Alone: dockerroot.Careful,
		Usage: "put images into the data-root of the running Docker Engine, and restart it;\n`HOW` is careful, which restarts no Engine whose containers stop with it, or force",
		Open: func(ctx context.Context, env *destination.Env, how string, o *Options) (destination.Destination, error) {
			of := o.Restart
			of.How = how
			return dockerroot.Restart(ctx, env, of)
		},
		Check: dockerroot.CheckRestart,
	},
	{
		Name: "containerd", Alone: containerd.AnyAddress,
		Usage: "put images into containerd, that of a Kubernetes node or of nerdctl, at the\nsocket `ADDRESS` (default: $CONTAINERD_ADDRESS, or the first usual one that answers)",
		Open: func(ctx context.Context, env *destination.Env, address string, o *Options) (destination.Destination, error) {
			of := o.Containerd
			of.Address = address
			return containerd.Open(ctx, env, of)
		},
		Check: checkContainerd,
		PartialDir: func(ctx context.Context, address string) (string, error) {
			return containerd.PartialDir(ctx, containerd.Options{Address: address})
		},
	},
	{
		Name:  "containerd-root",
		Usage: "put images into `DIR`, the root directory of a containerd that does not run,\nas /var/lib/containerd in a machine image; see --namespace",
		Open: func(ctx context.Context, env *destination.Env, dir string, o *Options) (destination.Destination, error) {
			return containerdroot.Open(ctx, env, dir, o.root())
		},
		Check:      containerdroot.Check,
		PartialDir: func(_ context.Context, dir string) (string, error) { return containerdroot.PartialDir(dir), nil },
	},
	{
		Name:  "docker-root",
		Usage: "put images into `DIR`, the data-root of a Docker 29 that does not run and has\nits images in containerd, as a new installation",
		Open: func(ctx context.Context, env *destination.Env, dir string, o *Options) (destination.Destination, error) {
			return containerdroot.OpenDocker(ctx, env, dir, o.root())
		},
		Check:      containerdroot.CheckDocker,
		PartialDir: func(_ context.Context, dir string) (string, error) { return containerdroot.DockerPartialDir(dir), nil },
	},
	{
		Name: "podman", Alone: podman.Default,
		Usage: "put images into the store of Podman, CRI-O and Buildah at `ROOT` (default: the\none that Podman itself would use); without root: podman unshare fastpull --podman",
		Open: func(ctx context.Context, env *destination.Env, root string, _ *Options) (destination.Destination, error) {
			return podman.Open(ctx, env, root)
		},
		Check: podman.Check,
	},
	{
		Name: "output", Short: "o",
		Usage: "write an archive for docker load to `FILE`",
		Open: func(ctx context.Context, env *destination.Env, file string, o *Options) (destination.Destination, error) {
			return archive.Open(ctx, env, file, o.Archive)
		},
		Check: archive.Check,
	},
	{
		Name:  "rootfs",
		Usage: "extract one image, all layers merged, into the new or empty directory `DIR`",
		Open: func(_ context.Context, env *destination.Env, dir string, _ *Options) (destination.Destination, error) {
			return rootfs.Open(env, dir)
		},
		Check: rootfs.Check,
	},
	{
		Name:  "null",
		Usage: "verify images and throw them away: measures the line to a registry,\nand how fast this machine decodes",
		Open: func(context.Context, *destination.Env, string, *Options) (destination.Destination, error) {
			return null.Open(), nil
		},
	},
}

// Entry is a destination, and the flag that names it.
type Entry struct {
	Name, Short string
	// Alone is the value of a flag that is given without one. "" requires a value.
	Alone string
	// Usage is the help text of the flag. The name of its value is in backquotes; a flag
	// without one takes no value.
	Usage string
	// Open opens the destination. value is that of the flag.
	Open func(ctx context.Context, env *destination.Env, value string, o *Options) (destination.Destination, error)
	// Check finds out what would not work on a machine, see [destination.Machine]. value is
	// that of the flag, "" if the user gave none. Nil finds nothing.
	Check func(ctx context.Context, m *destination.Machine, value string) []checkup.Finding
	// PartialDir returns the directory of the partial blobs of a containerd, see
	// [destination.Info]. value is that of the flag. Nil is for the other destinations.
	PartialDir func(ctx context.Context, value string) (string, error)
}

// Checks returns the destinations that have a check: first the Engine, which a pull looks
// for first, and then the others in the order of the help.
func Checks() (list []Entry) {
	for _, e := range Table {
		if e.Check != nil {
			list = append(list, e)
		}
	}
	rank := func(e Entry) int {
		if e.Name == "load" {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

// Options are those of all destinations. The zero value works.
type Options struct {
	Engine     engine.Options
	Archive    archive.Options
	Containerd containerd.Options
	// Stage has the store at a directory be the data-root of a Docker that may run: see
	// [dockerroot.Stage].
	Stage   bool
	Restart dockerroot.RestartOptions
}

// root returns the options of the root of a containerd.
func (o *Options) root() containerdroot.Options {
	return containerdroot.Options{Namespace: o.Containerd.Namespace, NoContent: o.Containerd.NoContent}
}

// Opener opens a destination. note is why it was chosen, "" if it was named.
type Opener func(ctx context.Context, env *destination.Env) (d destination.Destination, note string, err error)

// Named opens the destination of a name in the table.
func Named(name, value string, o Options) Opener {
	return func(ctx context.Context, env *destination.Env) (destination.Destination, string, error) {
		for _, e := range Table {
			if e.Name == name {
				d, err := e.Open(ctx, env, value, &o)
				return d, "", err
			}
		}
		return nil, "", fault.New(fault.Usage, "there is no destination %s", name)
	}
}
