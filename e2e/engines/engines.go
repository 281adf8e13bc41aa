// Package engines builds the programs of other projects that end-to-end tests run: container
// engines, registries, the conformance suite of the OCI distribution specification, and what
// reads manifests of Kubernetes.
//
// Debian has Docker 20.10, containerd 1.6 and docker-registry 2.8. Later ones come as Go
// modules. Each one is pinned in a module of its own below this folder, since their
// requirements differ.
//
// The executables stay in Go's build cache, so a program is compiled once for a machine:
// Docker takes about three minutes on two cores, crictl two, containerd, runc, kubernetes and
// distribution one, the others some seconds.
package engines

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Docker returns a folder whose programs are Docker 29: dockerd, the containerd and the
// shim that it starts, and runc. Put the folder first in dockerd's PATH. Keep it out of
// the PATH of Debian's dockerd 20.10, which fails with the newer shim.
//
// The folder is made below dir, which the caller owns. Docker may be called concurrently
// with different folders.
func Docker(ctx context.Context, dir string) (string, error) {
	return link(ctx, filepath.Join(dir, "docker29"), "dockerd", "containerd", "containerd-shim-runc-v2", "runc")
}

// Containerd returns a folder with containerd 2, its shim, ctr and runc. See [Docker]
// for dir.
func Containerd(ctx context.Context, dir string) (string, error) {
	return link(ctx, filepath.Join(dir, "containerd2"), "containerd", "containerd-shim-runc-v2", "ctr", "runc")
}

// Distribution returns the path of the registry that Docker calls registry:3, which is
// called as docker-registry is.
func Distribution(ctx context.Context) (string, error) { return build(ctx, "distribution") }

// Ocimem returns the path of a registry that is written anew by the specification, has the
// referrers API, and keeps all in memory. It is called with the address to listen on.
func Ocimem(ctx context.Context) (string, error) { return build(ctx, "ocimem") }

// Conformance returns the path of the conformance suite for registries. The environment
// tells it what to test, and its exit code is 0 if nothing failed.
func Conformance(ctx context.Context) (string, error) { return build(ctx, "conformance") }

// Crictl returns the path of the client with which containers and images are managed as a
// kubelet manages them.
func Crictl(ctx context.Context) (string, error) { return build(ctx, "crictl") }

// Kubernetes returns the path of a program that builds kustomizations, and decodes what comes
// out as the API of a cluster does. It prints JSON; see its documentation.
func Kubernetes(ctx context.Context) (string, error) { return build(ctx, "kubernetes") }

// program tells how a program is built.
type program struct {
	module string // the folder of the module that pins it
	cgo    string // "1" for programs that need a C compiler
	tags   string // build tags, separated by commas
}

var programs = map[string]program{
	"dockerd":                 {"docker", "0", "exclude_graphdriver_btrfs,netgo,osusergo"},
	"containerd":              {"containerd", "0", ""},
	"containerd-shim-runc-v2": {"containerd", "0", ""},
	"ctr":                     {"containerd", "0", ""},
	"runc":                    {"runc", "1", ""},
	"crictl":                  {"crictl", "0", ""},
	"kubernetes":              {"kubernetes", "0", ""},
	"distribution":            {"distribution", "0", ""},
	"ocimem":                  {"ocimem", "0", ""},
	"conformance":             {"conformance", "0", ""},
}

// link builds the named programs and makes a folder of links to them.
func link(ctx context.Context, folder string, names ...string) (string, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for _, name := range names {
		path, err := build(ctx, name)
		if err != nil {
			return "", err
		}
		if err := os.Symlink(path, filepath.Join(folder, name)); err != nil && !os.IsExist(err) {
			return "", err
		}
	}
	return folder, nil
}

// build returns the path of a program in Go's build cache, where go tool keeps the
// executables of a module's tool directives.
func build(ctx context.Context, name string) (string, error) {
	p := programs[name]
	_, self, _, _ := runtime.Caller(0)
	cmd := exec.CommandContext(ctx, "go", "tool", "-n", name)
	cmd.Dir = filepath.Join(filepath.Dir(self), p.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+p.cgo, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -tags="+p.tags))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}
