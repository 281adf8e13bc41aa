package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/fastpull/fastpull/fault"
)

// Where the programs are that extract a plain tar. gunzip is in a folder beside
// untar, and so are the peers, a module of their own.
const untarPackage = "github.com/fastpull/fastpull/e2e/bench/untar"

// build builds one of them into the cache: untar, peers or gunzip.
func (b *bench) build(ctx context.Context, name string) (program string, err error) {
	return b.buildIn(ctx, name, ".", name)
}

// buildIn builds a package, as the folder beside untar knows it.
func (b *bench) buildIn(ctx context.Context, folder, pkg, name string) (program string, err error) {
	untar, _, err := command{program: "go", args: []string{"list", "-f", "{{.Dir}}", untarPackage}}.run(ctx)
	if err != nil {
		return "", fault.WithHint(fmt.Errorf("find the source of %s: %w", name, err), "run the benchmark in fastpull's source folder")
	}
	program = filepath.Join(b.cache, "bin", name)
	b.source.say("building %s", name)
	_, _, err = command{
		program: "go",
		args:    []string{"build", "-C", filepath.Join(filepath.Dir(untar), folder), "-trimpath", "-buildvcs=false", "-o", program, pkg},
		env:     []string{"CGO_ENABLED=0"},
	}.run(ctx)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return program, nil
}
