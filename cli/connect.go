package cli

import (
	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/registry"
)

// connectFlags say how registries are reached.
type connectFlags struct {
	plainHTTP, skipVerify bool
	ca, hostsDirs         []string
	authFile              string
}

func (f *connectFlags) add(fl *pflag.FlagSet) {
	fl.BoolVar(&f.plainHTTP, "plain-http", false, "talk plain HTTP to all registries")
	fl.BoolVar(&f.skipVerify, "insecure-skip-tls-verify", false, "accept any TLS certificate")
	fl.StringArrayVar(&f.ca, "ca", nil, "trust the certificates of `FILE` (PEM) too; may be given several times")
	fl.StringVar(&f.authFile, "authfile", "", "look for credentials in `FILE` alone, in the format of Docker's config.json\n(default: the files of Docker and Podman)")
	fl.StringArrayVar(&f.hostsDirs, "hosts-dir", nil, "look for HOST/hosts.toml (mirrors) and HOST/*.crt in `DIR`; may be given several times\n(default: /etc/containerd/certs.d and /etc/docker/certs.d)")
}

func (f *connectFlags) options() registry.Options {
	return registry.Options{
		PlainHTTP: f.plainHTTP, SkipTLSVerify: f.skipVerify, CAFiles: f.ca, HostsDirs: f.hostsDirs, AuthFile: f.authFile,
		UserAgent: "fastpull/" + versionString(),
	}
}
