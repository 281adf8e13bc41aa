// Package engines builds the programs of other projects that end-to-end tests run: container
// engines, registries, the conformance suite of the OCI distribution specification, and what
// reads manifests of Kubernetes.
//
// Debian has Docker 20.10, containerd 1.6 and docker-registry 2.8. Later ones come as Go
// modules. Each one is pinned in a module of its own below this folder, since their
// requirements differ.
//
// The executables stay in Go's build cache, so a program is compiled once for a machine: the
// kubelet takes eight minutes on two cores, Docker three, CRI-O and crictl two, containerd, runc,
// kubernetes and distribution one, the others some seconds.
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

// Crio returns a folder with CRI-O, its program pinns, and runc. See [Docker] for dir. CRI-O takes
// build tags, which go tool does not know, and pinns is in C: both are linked anew in some seconds.
func Crio(ctx context.Context, dir string) (string, error) {
	folder, err := link(ctx, filepath.Join(dir, "crio"), "runc")
	if err != nil {
		return "", err
	}
	const module = "github.com/cri-o/cri-o"
	compile := command(ctx, "crio", "build", "-tags=containers_image_openpgp,exclude_graphdriver_btrfs", "-o", filepath.Join(folder, "crio"), module+"/cmd/crio")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if _, err := output(compile); err != nil {
		return "", err
	}
	sources, err := output(command(ctx, "crio", "list", "-m", "-f", "{{.Dir}}", module))
	if err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(sources, "pinns/src/*.c"))
	if err != nil {
		return "", err
	}
	_, err = output(exec.CommandContext(ctx, "cc", append([]string{"-Os", "-o", filepath.Join(folder, "pinns")}, files...)...))
	return folder, err
}

// Kubernetes returns the path of a program that builds kustomizations, and decodes what comes
// out as the API of a cluster does. It prints JSON; see its documentation.
func Kubernetes(ctx context.Context) (string, error) { return build(ctx, "kubernetes") }

// Kubelet returns the path of the kubelet, which runs pods of a directory without a cluster.
func Kubelet(ctx context.Context) (string, error) { return build(ctx, "kubelet") }

// FilteringRunc builds a runc into dir that can filter system calls, as every pod of a kubelet
// needs it. It needs a C compiler and Debian's libseccomp-dev. The command go tool takes no build tags.
func FilteringRunc(ctx context.Context, dir string) error {
	cmd := command(ctx, "runc", "build", "-tags", "seccomp", "-o", dir, "github.com/opencontainers/runc")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	_, err := output(cmd)
	return err
}

// program tells how a program is built.
type program struct {
	module string // the folder of the module that pins it
	cgo    string // "1" for programs that need a C compiler
}

var programs = map[string]program{
	"dockerd":                 {"docker", "0"},
	"containerd":              {"containerd", "0"},
	"containerd-shim-runc-v2": {"containerd", "0"},
	"ctr":                     {"containerd", "0"},
	"runc":                    {"runc", "1"},
	"crictl":                  {"crictl", "0"},
	"kubelet":                 {"kubelet", "0"},
	"crio":                    {"crio", "0"},
	"kubernetes":              {"kubernetes", "0"},
	"distribution":            {"distribution", "0"},
	"ocimem":                  {"ocimem", "0"},
	"conformance":             {"conformance", "0"},
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
	cmd := command(ctx, p.module, "tool", "-n", name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+p.cgo)
	return output(cmd)
}

// command is a go command in one of the modules.
func command(ctx context.Context, module string, args ...string) *exec.Cmd {
	_, self, _, _ := runtime.Caller(0)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(filepath.Dir(self), module)
	return cmd
}

// output runs a command, and returns the line that it prints.
func output(cmd *exec.Cmd) (string, error) {
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", cmd, err, errs.String())
	}
	return strings.TrimSpace(string(out)), nil
}
