package containerdroot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/containerdfiles"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/destination/internal/imagestore"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/internal/process"
)

// Options say how images go into a root. The zero value works.
type Options struct {
	// Namespace is containerd's. "" means $CONTAINERD_NAMESPACE, or else "default".
	Namespace string
	// NoContent stores no blobs of layers, only the snapshots unpacked from them. Containers
	// run, but the image cannot be pushed or exported. It is an error in Docker's namespace.
	NoContent bool
}

// Open opens the root at dir, which is made if it is not there. A dry run makes nothing.
func Open(ctx context.Context, env *destination.Env, dir string, o Options) (destination.Destination, error) {
	namespace := cmp.Or(o.Namespace, os.Getenv("CONTAINERD_NAMESPACE"), imagestore.NamespaceDefault)
	return open(ctx, env, dir, "root of containerd", namespace, o)
}

// OpenDocker opens the root in the data-root of a Docker 29 that does not run, which is made
// if it is not there. The namespace is Docker's if none is named.
func OpenDocker(ctx context.Context, env *destination.Env, dataRoot string, o Options) (destination.Destination, error) {
	if err := fits(dataRoot); err != nil {
		return nil, err
	}
	return open(ctx, env, inDataRoot(dataRoot), "data-root of Docker", cmp.Or(o.Namespace, imagestore.NamespaceDocker), o)
}

// inDataRoot returns where Docker 29 has the root of its own containerd.
func inDataRoot(dir string) string { return filepath.Join(dir, "containerd/daemon") }

// graphDrivers are those whose directory makes Docker 29 use them, and not containerd.
var graphDrivers = []string{"overlay2", "fuse-overlayfs", "btrfs", "zfs"}

// fits returns an error for a data-root whose Docker runs, or has its images elsewhere. A dockerd
// that uses the containerd of the host does not hold the lock of the root in its data-root.
func fits(dataRoot string) error {
	for _, name := range graphDrivers {
		entries, err := os.ReadDir(filepath.Join(dataRoot, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return destination.ExplainWrite(fmt.Errorf("look for a storage driver in the data-root %s: %w", dataRoot, err))
		}
		if len(entries) > 0 {
			return fault.WithHint(fault.New(fault.Usage, "the data-root %s has the storage driver %s, and Docker would not look for images in containerd", dataRoot, name),
				"fastpull --store DIR puts images where Docker has them there")
		}
	}
	why, err := process.DockerdOn(dataRoot)
	if err != nil {
		return destination.ExplainWrite(err)
	}
	if why != "" {
		return fault.WithHint(fault.New(fault.Failed, "%s is the data-root of a dockerd that is running (%s), which would not see images that are written there", dataRoot, why),
			"stop it first, or put images into it while it runs: fastpull --load IMAGE; if it uses the containerd of the host, its images are there: --containerd --namespace moby")
	}
	return nil
}

// PartialDir returns the directory where pulls into the root at dir keep partial blobs.
func PartialDir(dir string) string { return fetch.PartialDir(dir) }

// DockerPartialDir returns that of pulls into the data-root of a Docker 29.
func DockerPartialDir(dataRoot string) string { return PartialDir(inDataRoot(dataRoot)) }

func open(ctx context.Context, env *destination.Env, dir, what, namespace string, o Options) (destination.Destination, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := imagestore.CheckNamespace(namespace); err != nil {
		return nil, err
	}
	if !env.DryRun {
		if err := mayWrite(env.Rights, what); err != nil {
			return nil, err
		}
	}
	info := destination.Info{Name: fmt.Sprintf("%s %s, namespace %s", what, abs, namespace), Platform: image.Host(), PartialDir: PartialDir(abs)}
	r, err := containerdfiles.Open(ctx, abs, containerdfiles.Options{NoSync: env.NoSync, ReadOnly: env.DryRun, Lease: imagestore.LeasePrefix})
	switch {
	case env.DryRun && errors.Is(err, fs.ErrNotExist):
		return absent{info}, nil
	case err != nil:
		return nil, explain(err)
	}
	return imagestore.Open(ctx, env, imagestore.Options{
		C: files{r.In(namespace)}, Info: info, Lean: o.NoContent, Rebase: true,
		Look: func(context.Context, string) (imagestore.Reach, error) {
			return imagestore.Reach{Snapshots: r.Snapshots(), Content: r.Content()}, nil
		},
		Advice: "make room there",
	})
}

// mayWrite returns an error for a process that cannot make the files of layers.
func mayWrite(p privilege.Process, what string) error {
	if p.Trusted {
		return nil
	}
	return fault.WithHint(fault.New(fault.Denied, "layers in a %s have attributes trusted.*, which this process may not set", what),
		"run fastpull as root; in a container, with the capability SYS_ADMIN")
}

// explain gives the error of a root that cannot be opened its kind, and a hint.
func explain(err error) error {
	var in *containerdfiles.InUse
	if errors.As(err, &in) {
		if in.Name == "fastpull" {
			return fault.WithHint(err, "wait until that pull has ended: one process at a time puts images there")
		}
		return fault.WithHint(err, "stop it first; images go into a containerd that runs with --containerd, and into a Docker with --load")
	}
	return destination.ExplainWrite(err)
}

// files are those of a root, in a namespace.
type files struct{ *containerdfiles.Store }

var _ imagestore.Containerd = files{}

// Leased implements [imagestore.Containerd].
func (f files) Leased(lease string) imagestore.Containerd { return files{f.Store.Leased(lease)} }

// Snapshots implements [imagestore.Containerd].
func (f files) Snapshots() imagestore.Snapshots { return f.Store.Snapshots() }

// WriteBlob implements [imagestore.Containerd].
func (f files) WriteBlob(ctx context.Context, ref string, d digest.Digest, size int64) (imagestore.Writer, error) {
	w, err := f.Store.WriteBlob(ctx, ref, d, size)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// absent is the destination of a dry run without a root.
type absent struct{ info destination.Info }

// Info implements [destination.Destination].
func (a absent) Info() destination.Info { return a.info }

// Check implements [destination.Destination].
func (absent) Check(img *image.Image) error { return image.CheckContainerd(img) }

// Lookup implements [destination.Destination].
func (absent) Lookup(_ context.Context, q destination.Query) (destination.State, error) {
	return destination.Nothing(q), nil
}

// Begin implements [destination.Destination]. A dry run does not call it.
func (absent) Begin(context.Context, *destination.Image) (destination.Tx, error) {
	return nil, errors.ErrUnsupported
}

// Finish implements [destination.Destination].
func (absent) Finish(context.Context) error { return nil }

// Close implements [destination.Destination].
func (absent) Close() error { return nil }
