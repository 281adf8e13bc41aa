package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fastpull/fastpull/containerdapi"
	"github.com/fastpull/fastpull/destination/internal/imagestore"
	"github.com/fastpull/fastpull/fault"
)

// Options say which containerd, and where in it. The zero value works.
type Options struct {
	// Address is the path of the socket. "" and [AnyAddress] mean $CONTAINERD_ADDRESS, or
	// else the first of the usual ones that answers.
	Address string
	// Namespace is containerd's. "" means $CONTAINERD_NAMESPACE, or else that of the kubelet
	// if containerd serves one, that of Docker if Docker has started containerd, and
	// "default" otherwise.
	Namespace string
	// Snapshotter has the layers. "" means $CONTAINERD_SNAPSHOTTER, or else the one that is
	// set for the namespace, or overlayfs.
	Snapshotter string
	// NoContent stores no blobs of layers, only the snapshots unpacked from them. Containers
	// run, but the image cannot be pushed or exported. It is an error in Docker's namespace.
	NoContent bool
}

// AnyAddress is the address that is found out.
const AnyAddress = "auto"

// sockets are the usual sockets of containerd: by itself and in a node of kind, in k3s and
// RKE2, in MicroK8s, in k0s, and as a child of dockerd.
var sockets = []string{
	"/run/containerd/containerd.sock",
	"/run/k3s/containerd/containerd.sock",
	"/var/snap/microk8s/common/run/containerd.sock",
	"/run/k0s/containerd.sock",
	"/run/docker/containerd/containerd.sock",
}

// Connect connects to a containerd whose images are to be read, and chooses the namespace as
// [Open] does.
func Connect(ctx context.Context, o Options) (*containerdapi.Client, error) {
	c, err := connect(ctx, o)
	if err != nil {
		return nil, err
	}
	plugins, err := c.Plugins(ctx)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c.In(namespace(c, plugins, o)), nil
}

// connect connects to the containerd of the options.
func connect(ctx context.Context, o Options) (*containerdapi.Client, error) {
	address := o.Address
	if address == "" || address == AnyAddress {
		address = os.Getenv("CONTAINERD_ADDRESS")
	}
	if address != "" {
		return containerdapi.Dial(ctx, containerdapi.Options{Address: address})
	}
	return first(ctx, append(rootless(os.Geteuid()), sockets...))
}

// rootless returns the socket of the containerd that nerdctl's containerd-rootless.sh has
// started for a user other than root. It is in the mount namespace of a process that a file
// names.
func rootless(euid int) []string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if euid == 0 || dir == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, "containerd-rootless/child_pid"))
	pid, perr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || perr != nil {
		return nil
	}
	return []string{fmt.Sprintf("/proc/%d/root%s", pid, sockets[0])}
}

// first connects to the first socket that answers.
func first(ctx context.Context, sockets []string) (*containerdapi.Client, error) {
	var failure error
	for _, socket := range sockets {
		c, err := containerdapi.Dial(ctx, containerdapi.Options{Address: socket})
		switch {
		case err == nil:
			return c, nil
		case ctx.Err() != nil || !errors.Is(err, containerdapi.ErrUnavailable):
			return nil, err
		case failure == nil || !errors.Is(err, fs.ErrNotExist):
			failure = err
		}
	}
	return nil, failure
}

// chooseNamespace chooses the namespace and the snapshotter.
func chooseNamespace(ctx context.Context, c *containerdapi.Client, o Options) (*containerdapi.Client, *containerdapi.Snapshots, containerdapi.Plugins, error) {
	plugins, err := c.Plugins(ctx)
	if err != nil {
		return nil, nil, plugins, err
	}
	in := namespace(c, plugins, o)
	if err := imagestore.CheckNamespace(in); err != nil {
		return nil, nil, plugins, err
	}
	c = c.In(in)
	name := cmp.Or(o.Snapshotter, os.Getenv("CONTAINERD_SNAPSHOTTER"))
	if name == "" {
		labels, err := c.NamespaceLabels(ctx)
		if err != nil {
			return nil, nil, plugins, err
		}
		name = cmp.Or(labels["containerd.io/defaults/snapshotter"], imagestore.Overlayfs)
	}
	if _, ok := plugins.Snapshotters[name]; !ok {
		have := slices.Sorted(maps.Keys(plugins.Snapshotters))
		return nil, nil, plugins, fault.WithHint(fault.New(fault.Usage, "containerd at %s has no snapshotter %s", c.Address(), name),
			"set CONTAINERD_SNAPSHOTTER to one that it has: %s", strings.Join(have, ", "))
	}
	return c, c.Snapshots(name), plugins, nil
}

// namespace chooses the namespace.
func namespace(c *containerdapi.Client, plugins containerdapi.Plugins, o Options) string {
	name := cmp.Or(o.Namespace, os.Getenv("CONTAINERD_NAMESPACE"))
	switch {
	case name != "":
		return name
	case plugins.CRI:
		return imagestore.NamespaceCRI
	case dockers(c.Address()):
		return imagestore.NamespaceDocker
	}
	return imagestore.NamespaceDefault
}

// dockers reports whether dockerd has started the containerd of a socket.
func dockers(socket string) bool {
	return strings.HasSuffix(filepath.Clean(socket), "/docker/containerd/containerd.sock")
}
