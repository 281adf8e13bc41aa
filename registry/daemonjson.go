package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
)

const defaultDaemonJSON = "/etc/docker/daemon.json"

// dockerConf is what a daemon.json says of registries.
type dockerConf struct {
	names   map[string]bool // insecure-registries
	nets    []netip.Prefix
	mirrors []hostConf // registry-mirrors, which are for Docker Hub
}

// readDaemonJSON reads the file, or the default one if it is there and may be
// read: that of a machine's administrator can be for root alone.
func readDaemonJSON(file string) (dockerConf, error) {
	in := dockerConf{names: map[string]bool{}}
	data, err := os.ReadFile(cmp.Or(file, defaultDaemonJSON))
	if err != nil {
		if file == "" && absent(err) {
			return in, nil
		}
		return in, fileError("Docker's configuration", err)
	}
	file = cmp.Or(file, defaultDaemonJSON)
	var conf struct {
		Insecure []string `json:"insecure-registries"`
		Mirrors  []string `json:"registry-mirrors"`
	}
	// Docker takes an empty file for an empty configuration.
	if len(strings.TrimSpace(string(data))) > 0 {
		if err := json.Unmarshal(data, &conf); err != nil {
			return in, fmt.Errorf("read Docker's configuration %s: %w", file, err)
		}
	}
	for _, entry := range conf.Insecure {
		if p, err := netip.ParsePrefix(entry); err == nil {
			in.nets = append(in.nets, p.Masked())
			continue
		}
		entry = strings.TrimPrefix(strings.TrimPrefix(entry, "https://"), "http://")
		if !hostPattern.MatchString(entry) {
			return in, fmt.Errorf("read Docker's configuration %s: insecure-registries has %q, which is neither a host nor a network", file, cut(entry, 100))
		}
		in.names[strings.ToLower(entry)] = true
	}
	if in.mirrors, err = readMirrors(conf.Mirrors); err != nil {
		return in, fmt.Errorf("read Docker's configuration %s: %w", file, err)
	}
	return in, nil
}

// namesHost reports whether a host is listed, by name or by its address as it is written.
func (in dockerConf) namesHost(hostport string) bool {
	if in.names[strings.ToLower(hostport)] {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(hostOnly(hostport), "[]"))
	return err == nil && in.lists(ip)
}

// lists reports whether an address is in one of the networks that are listed.
func (in dockerConf) lists(ip netip.Addr) bool {
	ip = ip.Unmap()
	for _, p := range in.nets {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// match reports whether a host is loopback or listed, by name or by address. As in Docker, it
// looks up the addresses of a name, and a name without an address is not listed. It looks up no
// names that are reached by a proxy if no addresses are listed: such names need not have an
// address, and the lookup may take long.
func (in dockerConf) match(ctx context.Context, hostport string) bool {
	if in.names[strings.ToLower(hostport)] {
		return true
	}
	host := strings.Trim(hostOnly(hostport), "[]")
	if host == "localhost" {
		return true
	}
	listed := func(ip netip.Addr) bool { return in.lists(ip) || ip.Unmap().IsLoopback() }
	if ip, err := netip.ParseAddr(host); err == nil {
		return listed(ip)
	}
	if len(in.nets) == 0 && proxied(hostport) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	ips, err := lookUpIP(ctx, "ip", host)
	if err != nil {
		return false
	}
	for _, ip := range ips {
		if listed(ip) {
			return true
		}
	}
	return false
}

// lookUpIP finds the addresses of a name. It is a variable for tests.
var lookUpIP = net.DefaultResolver.LookupNetIP

// proxied reports whether the environment has a proxy for a host.
func proxied(hostport string) bool {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: hostport}})
	return err == nil && proxy != nil
}

// hostOnly returns a host without its port.
func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}
