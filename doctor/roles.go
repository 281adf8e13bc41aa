package doctor

import (
	"path/filepath"
	"slices"
	"strings"
)

// isUnpacker reports whether a process of that name writes a layer's files: copies of
// dockerd (until Docker 20.10) and of Podman that lock themselves up in the layer.
func isUnpacker(name string) bool {
	return slices.Contains([]string{"docker-untar", "docker-applyLayer", "storage-untar", "storage-applyLayer"}, name)
}

// isDecompressor reports whether a program of that name decompresses.
func isDecompressor(name string) bool {
	return slices.Contains([]string{
		"unpigz", "pigz", "igzip", "gzip", "gunzip", "xz", "unxz", "lzma", "zstd", "unzstd", "zstdmt",
		"bzip2", "bunzip2", "pbzip2", "lbzip2",
	}, name)
}

// ofGzip reports whether a program of that name decompresses gzip: these give output
// all the time, while others work on blocks of many MiB.
func ofGzip(name string) bool { return strings.Contains(name, "gz") || strings.HasPrefix(name, "gun") }

// candidate is a program that an Engine would run, if it is there.
type candidate struct {
	program string
	args    []string
	disable string // the variable that has the Engine do without, "" if there is none
}

// role is what an Engine does with a gzip layer: it runs the first of its candidates
// that is in its PATH and not disabled, or decompresses by itself.
//
// Sources: moby's pkg/archive/archive.go (now moby/go-archive), containerd's
// pkg/archive/compression/compression.go, which BuildKit uses as well, and
// containers/storage's pkg/archive/filter.go, which Podman, Buildah and CRI-O share.
type role struct {
	kind       string
	candidates []candidate
	// disabled are lines for its environment that have it run none.
	disabled []string
}

var (
	unpigz = candidate{"unpigz", []string{"-d", "-c"}, "MOBY_DISABLE_PIGZ"}

	dockerRole = role{
		kind:       "dockerd",
		candidates: []candidate{unpigz},
		disabled:   []string{"MOBY_DISABLE_PIGZ=true"},
	}
	containerdRole = role{
		kind: "containerd",
		candidates: []candidate{
			{"igzip", []string{"-d", "-c"}, "CONTAINERD_DISABLE_IGZIP"},
			{"unpigz", []string{"-d", "-c"}, "CONTAINERD_DISABLE_PIGZ"},
		},
		disabled: []string{"CONTAINERD_DISABLE_IGZIP=true", "CONTAINERD_DISABLE_PIGZ=true"},
	}
	storageRole = role{
		kind:       "podman",
		candidates: []candidate{{"pigz", []string{"-d"}, ""}},
	}
)

// roleOf returns what a process of that name is, if it is an Engine.
func roleOf(comm string) (role, bool) {
	r := role{}
	switch {
	case isDockerd(comm):
		r = dockerRole
	case comm == "containerd", comm == "buildkitd":
		r = containerdRole
	case hasStorage(comm):
		r = storageRole
	default:
		return r, false
	}
	r.kind = comm
	return r, true
}

// isDockerd reports whether a process of that name is a Docker Engine.
func isDockerd(comm string) bool {
	return comm == "dockerd" || comm == "dockerd-dev" || comm == "dockerd-ce"
}

// dockerOf returns the dockerd that started a containerd and needs it, or nil for any other
// process. A dockerd that was restarted takes over the containerd of its predecessor. Then only
// its configuration, which dockerd writes, shows which dockerd that is.
func dockerOf(all map[int]*process, x *process) *process {
	if x.comm != "containerd" {
		return nil
	}
	if up := all[x.ppid]; up != nil && isDockerd(up.comm) {
		return up
	}
	for _, config := range values(x.args, "--config", "-c") {
		for _, d := range all {
			if !isDockerd(d.comm) {
				continue
			}
			execRoot := "/var/run/docker"
			if named := values(d.args, "--exec-root"); len(named) > 0 {
				execRoot = named[len(named)-1]
			}
			if socket("unix://"+config) == socket("unix://"+filepath.Join(execRoot, "containerd/containerd.toml")) {
				return d
			}
		}
	}
	return nil
}

func isEngine(comm string) bool {
	_, ok := roleOf(comm)
	return ok
}

// isShim reports whether a process of that name keeps containers, or starts one, as for a
// step of a build. What runs below one belongs to a container, and is none of an Engine's
// business.
func isShim(comm string) bool {
	return strings.HasPrefix(comm, "containerd-shim") || slices.Contains([]string{"conmon", "runc", "crun", "buildkit-runc"}, comm)
}
