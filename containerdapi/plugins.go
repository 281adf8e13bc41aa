package containerdapi

import (
	"context"
	"slices"

	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	"github.com/containerd/errdefs"
	"google.golang.org/grpc/codes"
)

// Plugin is a part of containerd that is in use.
type Plugin struct {
	Root         string // its directory, "" if it has none
	Capabilities []string
}

// Has reports whether the plugin has a capability.
func (p Plugin) Has(capability string) bool { return slices.Contains(p.Capabilities, capability) }

// Plugins are the parts of containerd that matter to images.
type Plugins struct {
	// CRI is set if containerd answers the kubelet.
	CRI bool
	// Snapshotters are those that can be used, by name.
	Snapshotters map[string]Plugin
	// Content is the content store.
	Content Plugin
}

// Plugins asks for the parts that containerd has loaded.
func (c *Client) Plugins(ctx context.Context) (p Plugins, err error) {
	answer, err := call(ctx, c, introspectionapi.NewIntrospectionClient(c.conn).Plugins, &introspectionapi.PluginsRequest{})
	if err != nil {
		return p, err
	}
	p.Snapshotters = make(map[string]Plugin)
	for _, one := range answer.Plugins {
		if one.InitErr != nil && codes.Code(one.InitErr.Code) != codes.OK {
			continue
		}
		known := Plugin{Root: one.Exports["root"], Capabilities: one.Capabilities}
		switch {
		case one.Type == "io.containerd.grpc.v1" && one.ID == "cri":
			p.CRI = true
		case one.Type == "io.containerd.snapshotter.v1":
			p.Snapshotters[one.ID] = known
		case one.Type == "io.containerd.content.v1":
			p.Content = known
		}
	}
	return p, nil
}

// NamespaceLabels returns the labels of the client's namespace, none if it is not there:
// containerd makes it when something is put into it.
func (c *Client) NamespaceLabels(ctx context.Context) (map[string]string, error) {
	answer, err := call(ctx, c, namespacesapi.NewNamespacesClient(c.conn).Get, &namespacesapi.GetNamespaceRequest{Name: c.namespace})
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return answer.Namespace.Labels, nil
}
