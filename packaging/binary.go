package main

import (
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// binary is a program of the release.
type binary struct {
	path string
	arch string // GOARCH
	info *buildinfo.BuildInfo
}

// binaryPrefix is what the names of binaries begin with, before GOARCH.
const binaryPrefix = "fastpull-linux-"

func (b binary) name() string { return filepath.Base(b.path) }

// readBinaries returns the binaries in a directory, sorted by name.
func readBinaries(dir string) (list []binary, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, binaryPrefix+"*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	for _, path := range paths {
		arch := strings.TrimPrefix(filepath.Base(path), binaryPrefix)
		if strings.Contains(arch, ".") {
			continue // an SBOM of an earlier run
		}
		b, err := readBinary(path, arch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, b)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no binary %sARCH", dir, binaryPrefix)
	}
	return list, nil
}

// readBinary refuses a program that is for another machine than its name says, or that
// needs a dynamic linker.
func readBinary(path, arch string) (b binary, err error) {
	file, err := elf.Open(path)
	if err != nil {
		return b, err
	}
	defer file.Close()
	if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return b, fmt.Errorf("the program is not static: build it with CGO_ENABLED=0")
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return b, err
	}
	b = binary{path, arch, info}
	if got := b.setting("GOARCH"); got != arch {
		return b, fmt.Errorf("the program is for %s", got)
	}
	return b, nil
}

// setting returns how the binary was built, "" for what is not known.
func (b binary) setting(key string) string {
	for _, s := range b.info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// environment returns the variables by which the go command builds for the same machine.
func (b binary) environment() (env []string) {
	for _, s := range b.info.Settings {
		if strings.HasPrefix(s.Key, "GO") || s.Key == "CGO_ENABLED" {
			env = append(env, s.Key+"="+s.Value)
		}
	}
	return env
}
