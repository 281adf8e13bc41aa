package daemon

import (
	"net/netip"
	"testing"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/system"
)

func TestFacts(t *testing.T) {
	e := dialFake(t, &fake{api: "1.44", info: system.Info{
		Driver: "overlay2", DriverStatus: [][2]string{{"Backing Filesystem", "xfs"}, {"Supports d_type", "false"}},
		DockerRootDir: "/data/docker", LiveRestoreEnabled: true, HTTPSProxy: "http://proxy:3128",
		SecurityOptions: []string{"name=seccomp,profile=default", "name=rootless"},
		RegistryConfig:  &registry.ServiceConfig{Mirrors: []string{"https://mirror/"}},
	}})
	f := e.Facts()
	if f.Version != "20.10.24" || f.Major() != 20 || f.API != "1.44" || f.Driver != "overlay2" || f.Backing != "xfs" || !f.NoTypes ||
		f.Root != "/data/docker" || !f.LiveRestore || !f.Rootless || !f.Proxied || len(f.Mirrors) != 1 {
		t.Errorf("%+v", f)
	}
	if !e.Local() {
		t.Errorf("%s is here", e.Host())
	}
	if f.Containerd != "" {
		t.Errorf("with a graph driver no containerd keeps images: %q", f.Containerd)
	}
	info := containerdInfo
	info.Containerd = &system.ContainerdInfo{Address: "/run/containerd/containerd.sock"}
	if f := dialFake(t, &fake{info: info}).Facts(); f.Containerd != "/run/containerd/containerd.sock" {
		t.Errorf("%+v", f)
	}
	bare := dialFake(t, &fake{}).Facts()
	if bare.NoTypes || bare.LiveRestore || bare.Rootless || bare.Proxied {
		t.Errorf("of an Engine that says nothing: %+v", bare)
	}
}

func TestInsecure(t *testing.T) {
	e := dialFake(t, &fake{info: system.Info{RegistryConfig: &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")},
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Secure: true}, "named:5000": {Secure: false},
		},
	}}})
	for _, tc := range []struct {
		registry string
		address  string
		want     bool
	}{
		{"named:5000", "", true}, {"docker.io", "127.0.0.1", false}, {"other:5000", "10.1.2.3", true},
		{"other:5000", "10.2.2.3", false}, {"other:5000", "", false}, {"other:5000", "::ffff:127.0.0.1", true},
	} {
		var addresses []netip.Addr
		if tc.address != "" {
			addresses = append(addresses, netip.MustParseAddr(tc.address))
		}
		if got := e.Insecure(tc.registry, addresses); got != tc.want {
			t.Errorf("%s at %q: %t", tc.registry, tc.address, got)
		}
	}
	if dialFake(t, &fake{}).Insecure("named:5000", nil) {
		t.Error("an Engine that says nothing takes any certificate")
	}
}
