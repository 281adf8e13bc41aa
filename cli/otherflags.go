package cli

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/fault"
)

// What to use in place of the flags of other tools.
const (
	useTLS      = "certificates are checked unless --insecure-skip-tls-verify is given; --plain-http is for a registry without TLS, --ca FILE trusts one more authority"
	useLogin    = "fastpull login HOST keeps credentials, as docker login does; --authfile FILE has others. No flag takes a password: other users of the machine could see it"
	useCA       = "--ca FILE trusts an authority; --hosts-dir DIR has HOST/*.crt, *.cert and *.key"
	usePlatform = "--platform OS/ARCH[/VARIANT] chooses one"
	useStore    = "--store DIR is a data-root of Docker's; $FASTPULL_STORE names another default"
	useFile     = "the file is named without a flag: fastpull load FILE"
	useDebug    = "--debug shows requests and decisions"
)

// otherFlags are flags of docker, podman, skopeo, crane, ctr, nerdctl and oras, without
// dashes, and what to use here.
var otherFlags = map[string]string{
	"tls-verify": useTLS, "src-tls-verify": useTLS, "dest-tls-verify": useTLS, "insecure": useTLS, "insecure-registry": useTLS,
	"skip-verify": useTLS, "k": useTLS, "allow-nondistributable-artifacts": "all layers are fetched; leave it out",
	"http": "--plain-http", "use-http": "--plain-http", "plain": "--plain-http",
	"creds": useLogin, "src-creds": useLogin, "dest-creds": useLogin, "registry-token": useLogin, "password": useLogin, "p": useLogin,
	"user": useLogin, "username": useLogin, "u": useLogin,
	"cert-dir": useCA, "src-cert-dir": useCA, "dest-cert-dir": useCA, "tlscacert": useCA, "ca-file": useCA, "cacert": useCA,
	"arch": usePlatform, "os": usePlatform, "variant": usePlatform, "override-arch": usePlatform, "override-os": usePlatform,
	"override-variant": usePlatform,
	"all-platforms":    "fastpull bundle --platform all takes all platforms", "multi-arch": "fastpull bundle --platform all takes all platforms",
	"root": useStore, "data-root": useStore, "graph": useStore, "storage-driver": "a store is one of overlay2; leave it out",
	"input": useFile, "i": useFile,
	"a":                        "--all-tags pulls all tags of a repository; --containerd=ADDRESS names a containerd",
	"address":                  "--containerd=ADDRESS",
	"n":                        "--namespace NAME goes with --containerd",
	"snapshotter":              "$CONTAINERD_SNAPSHOTTER names the snapshotter",
	"host":                     "$DOCKER_HOST names the Engine",
	"H":                        "$DOCKER_HOST names the Engine",
	"config":                   "$DOCKER_CONFIG is the directory of config.json; --authfile FILE names one file",
	"registry-config":          "--authfile FILE",
	"disable-content-trust":    "signatures are not checked, digests always; leave it out",
	"max-concurrent-downloads": "--jobs N is for layers, --connections N for requests",
	"concurrency":              "--jobs N is for layers, --connections N for requests", "parallel": "--jobs N", "j": "--jobs N",
	"retry": "--retries N", "retry-times": "--retries N", "max-retries": "--retries N",
	"no-progress": "-q, or --progress=plain for a log", "log-level": useDebug, "verbose": useDebug, "v": useDebug + "; the version: fastpull version", "D": useDebug,
	"format":    "--json prints what a program can read",
	"no-trunc":  "--json prints what a program can read",
	"extract":   "--rootfs DIR extracts an image",
	"to-docker": "--load",
}

// flagError says what to use in place of a flag that a command does not have.
func flagError(cmd *cobra.Command, err error) error {
	hint := fault.HintOf(err)
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		hint = otherFlags[unknown.GetSpecifiedName()]
	}
	if hint == "" {
		return fault.WithHint(fault.Wrap(fault.Usage, err), "see: %s --help", cmd.CommandPath())
	}
	return fault.WithHint(fault.Wrap(fault.Usage, err), "%s; see: %s --help", hint, cmd.CommandPath())
}
