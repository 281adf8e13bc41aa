package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fastpull is a build of it.
type fastpull struct {
	name    string // in tables
	program string
	more    []string // options of each pull
}

// noSync returns a build that does not wait until the files are on the disk, as engines do not.
func (p fastpull) noSync() fastpull {
	return fastpull{p.name, p.program, append(slices.Clone(p.more), "--no-sync")}
}

// builds parses the list of programs. One is called fastpull, several by what
// tells their names apart.
func builds(list string) ([]fastpull, error) {
	var all []fastpull
	for name := range strings.SplitSeq(list, ",") {
		program, err := firstOf(name)
		if err != nil {
			return nil, fmt.Errorf("find fastpull: %w", err)
		}
		all = append(all, fastpull{name: name, program: program})
	}
	if len(all) == 1 {
		all[0].name = "fastpull"
	}
	return all, nil
}

// pull runs it with quiet progress.
func (p fastpull) pull(ctx context.Context, env []string, args ...string) (usage, error) {
	_, u, err := command{program: p.program, args: slices.Concat([]string{"pull", "--progress", "quiet"}, p.more, args), env: env}.run(ctx)
	return u, err
}

// stored gives the ID of an image in a store.
func (p fastpull) stored(ctx context.Context, store string, img *testImage) (string, error) {
	out, _, err := command{program: p.program, args: []string{"inspect", "--json", "--store", store, img.ref}}.run(ctx)
	if err != nil {
		return "", err
	}
	var info struct {
		ID      string
		Missing int
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		return "", fmt.Errorf("read what fastpull inspect printed: %w", err)
	}
	if info.Missing > 0 {
		return "", fmt.Errorf("%d layers are missing", info.Missing)
	}
	return info.ID, nil
}

// toStore is a pull into a new store.
func (b *bench) toStore(p fastpull, img *testImage) entrant {
	return entrant{name: p.name, image: img, turn: func(ctx context.Context, d *disk) (figures, error) {
		return b.pullToStore(ctx, d, p, img)
	}}
}

func (b *bench) pullToStore(ctx context.Context, d *disk, p fastpull, img *testImage) (figures, error) {
	store := d.path("store")
	f, err := b.measure(ctx, d, func(ctx context.Context) (usage, error) {
		return p.pull(ctx, nil, "--store", store, img.ref)
	})
	if err != nil {
		return f, err
	}
	id, err := p.stored(ctx, store, img)
	if err != nil {
		return f, err
	}
	return f, expectID(img, id)
}

// again is the second pull into a store.
func (b *bench) again(p fastpull, img *testImage) entrant {
	return entrant{name: p.name, image: img, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		if f, err = b.pullToStore(ctx, d, p, img); err != nil {
			return f, err
		}
		if f.Requests.Blobs == 0 {
			return f, errors.New("the first pull has fetched nothing, so that the second shows nothing")
		}
		return b.pullToStore(ctx, d, p, img)
	}}
}

// toEngine loads into an empty Engine.
func (b *bench) toEngine(p fastpull, img *testImage) entrant {
	return b.intoEngine(debian, p.name+" --load", img, false, func(ctx context.Context, e *engine, d *disk) (usage, error) {
		return p.pull(ctx, []string{"DOCKER_HOST=" + e.host}, "--load", "--temp-dir", d.dir, img.ref)
	})
}

// restarting puts an image into the data-root of an empty Engine, with a restart. Of the
// Engine that is stopped the CPU time is not counted as its own.
func (b *bench) restarting(p fastpull, img *testImage) entrant {
	return entrant{name: p.name + " --restart-engine", image: img, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		e, err := b.startEngine(ctx, d, debian)
		if err != nil {
			return f, err
		}
		defer func() { e.stop() }() // the one that runs then
		service, end, err := e.service()
		if err != nil {
			return f, err
		}
		defer end()
		f, err = b.measure(ctx, d, func(ctx context.Context) (usage, error) {
			u, err := p.pull(ctx, []string{"DOCKER_HOST=" + e.host}, "--restart-engine", "--restart-command", service, img.ref)
			if err != nil {
				return u, fmt.Errorf("%w%s", err, lastLines(e.out.String()))
			}
			again, err := e.usage()
			u.cpu += again.cpu
			return u, err
		})
		if err != nil {
			return f, err
		}
		return f, e.has(ctx, img)
	}}
}

// toContainerd puts an image into a new containerd, which runs no decompressor.
func (b *bench) toContainerd(r release) func(fastpull, *testImage) entrant {
	return func(p fastpull, img *testImage) entrant {
		return b.intoContainerd(r, p.name+" --containerd", img, false, func(ctx context.Context, c *containerd, d *disk) (usage, error) {
			return p.pull(ctx, nil, "--containerd="+c.sock, "--temp-dir", d.dir, img.ref)
		})
	}
}

// toDocker29 puts an image into a new Engine that has containerd's store. The program
// chooses the way by itself.
func (b *bench) toDocker29(p fastpull, img *testImage) entrant {
	return b.intoEngine(today, p.name, img, false, func(ctx context.Context, e *engine, d *disk) (usage, error) {
		return p.pull(ctx, []string{"DOCKER_HOST=" + e.host}, "--temp-dir", d.dir, img.ref)
	})
}

// toDirectory writes the files of an image to a new directory.
func (b *bench) toDirectory(p fastpull, img *testImage) entrant {
	return entrant{name: p.name + " --rootfs", image: img, turn: func(ctx context.Context, d *disk) (f figures, err error) {
		dir := d.path("rootfs")
		f, err = b.measure(ctx, d, func(ctx context.Context) (usage, error) {
			return p.pull(ctx, nil, "--rootfs", dir, "--temp-dir", d.dir, img.ref)
		})
		if err != nil {
			return f, err
		}
		entries, err := countBelow(dir)
		if err == nil && entries < img.Stats.Entries*9/10 { // layers may replace each other's files
			err = fmt.Errorf("%s has %d entries of %d", dir, entries, img.Stats.Entries)
		}
		return f, err
	}}
}

// countBelow counts the files and directories below dir.
func countBelow(dir string) (n int, err error) {
	err = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil })
	return n - 1, err
}

// archive has an image as a plain tar in the cache, for docker load.
func (b *bench) archive(ctx context.Context, p fastpull, img *testImage) (string, error) {
	file := filepath.Join(b.cache, "archives", strings.TrimPrefix(img.ID, "sha256:")+".tar")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	b.source.say("%s: writing it to a tar for docker load", img.Name)
	if _, err := p.pull(ctx, nil, "-o", file+".part", img.ref); err != nil {
		return "", errors.Join(err, removeIfThere(file+".part"))
	}
	return file, os.Rename(file+".part", file)
}

func removeIfThere(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
