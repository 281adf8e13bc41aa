package daemon

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/swarm"
)

// Facts are what an Engine says of itself.
type Facts struct {
	Version     string // such as "20.10.24"
	API         string // the latest version of the API that it speaks
	Driver      string // of its storage
	Backing     string // the file system below, as the driver names it; "" if it does not
	NoTypes     bool   // that file system's directories have no types (d_type)
	Root        string // data-root, a path on its own host
	Containerd  string // the socket of the containerd that keeps its images, "" if none does
	Namespace   string // that they have there
	LiveRestore bool   // containers survive a restart of it
	Rootless    bool   // it does not run as root
	Remapped    bool   // users of containers are others on the host (userns-remap)
	Swarm       bool   // it is a node of a swarm
	Proxied     bool   // it asks registries by a proxy
	Mirrors     []string
}

// Facts returns what the Engine said when it was connected to.
func (e *Engine) Facts() Facts {
	f := Facts{
		Version: e.info.ServerVersion, API: e.api, Driver: e.info.Driver, Root: e.info.DockerRootDir,
		LiveRestore: e.info.LiveRestoreEnabled,
		Rootless:    slices.Contains(e.info.SecurityOptions, "name=rootless"),
		Remapped:    slices.Contains(e.info.SecurityOptions, "name=userns"),
		Swarm:       e.info.Swarm.LocalNodeState != "" && e.info.Swarm.LocalNodeState != swarm.LocalNodeStateInactive,
		Proxied:     e.info.HTTPProxy != "" || e.info.HTTPSProxy != "",
	}
	if e.Containerd() && e.info.Containerd != nil {
		f.Containerd, f.Namespace = e.info.Containerd.Address, e.info.Containerd.Namespaces.Containers
	}
	for _, s := range e.info.DriverStatus {
		switch s[0] {
		case "Backing Filesystem":
			f.Backing = s[1]
		case "Supports d_type":
			f.NoTypes = s[1] == "false"
		}
	}
	if e.info.RegistryConfig != nil {
		f.Mirrors = e.info.RegistryConfig.Mirrors
	}
	return f
}

// Major returns the first number of the Engine's version, 0 if it has none.
func (f Facts) Major() int {
	first, _, _ := strings.Cut(f.Version, ".")
	n, _ := strconv.Atoi(first)
	return n
}

// Host returns the Engine's address.
func (e *Engine) Host() string { return e.host }

// Local reports whether the Engine is spoken to by a socket of this machine.
func (e *Engine) Local() bool { return strings.HasPrefix(e.host, "unix://") }

// Insecure reports whether the Engine takes any certificate of a registry, and plain HTTP:
// registries that its configuration names, or one with an address, which is given
// where it is known, in a network that it names.
func (e *Engine) Insecure(registry string, addresses []netip.Addr) bool {
	conf := e.info.RegistryConfig
	if conf == nil {
		return false
	}
	if index := conf.IndexConfigs[registry]; index != nil {
		return !index.Secure
	}
	return slices.ContainsFunc(addresses, func(a netip.Addr) bool {
		return slices.ContainsFunc(conf.InsecureRegistryCIDRs, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	})
}
