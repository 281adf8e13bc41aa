package main

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

// The tars that can be asked for.
const (
	share  = "share"  // what /usr/share has
	golang = "go"     // the Go toolchain
	libs   = "libs"   // shared libraries
	python = "python" // made up: very many small files
	empty  = "empty"  // made up: a million files without content
)

// extractor is a program that makes files of a plain tar.
type extractor struct {
	name string
	// command extracts file into an empty directory; split is the name of a
	// file beside it that does not exist yet.
	command func(t *testTar, dir, split string) command
	// check looks, beyond the number of files and their sizes, at what is there.
	// Nil is nothing more.
	check func(ctx context.Context, t *testTar, out, dir, split string) error
}

// extractors are all that compete for a tar: fastpull first, and for empty only
// tar beside it, since what that shows is fastpull's memory.
func (b *bench) extractors(ctx context.Context, kind string) ([]extractor, error) {
	if b.untars == nil {
		program, err := b.build(ctx, "untar")
		if err != nil {
			return nil, err
		}
		b.untars = []fastpull{{name: "fastpull", program: program}}
	}
	var list []extractor
	for _, p := range b.untars {
		list = append(list, byUntar(p))
	}
	if slices.Contains(b.against, tarProgram) {
		program, err := firstOf("/usr/bin/tar", "tar")
		if err != nil {
			return nil, err
		}
		list = append(list, byTar(program))
	}
	if kind == empty {
		return list, nil
	}
	for _, library := range []string{ctr, goArchive, umoci} {
		if !slices.Contains(b.against, library) {
			continue
		}
		if b.peers == "" {
			var err error
			if b.peers, err = b.build(ctx, "peers"); err != nil {
				return nil, err
			}
		}
		list = append(list, byPeer(b.peers, library))
	}
	return list, nil
}

func byUntar(p fastpull) extractor {
	return extractor{
		name: p.name,
		command: func(t *testTar, dir, split string) command {
			return command{program: p.program, args: []string{"-tar", t.path, "-digest", t.DiffID, "-to", dir, "-split", split}}
		},
		check: checkUntar,
	}
}

// byTar is tar -x as root uses it.
func byTar(program string) extractor {
	return extractor{name: "tar -x", command: func(t *testTar, dir, _ string) command {
		return command{program: program, args: []string{"-x", "-f", t.path, "-C", dir}}
	}}
}

// byPeer is a library, in the program peers.
func byPeer(program, library string) extractor {
	name := map[string]string{ctr: "containerd archive.Apply", goArchive: "go-archive UntarUncompressed", umoci: "umoci UnpackLayer"}[library]
	return extractor{name: name, command: func(t *testTar, dir, _ string) command {
		return command{program: program, args: []string{"-with", library, "-tar", t.path, "-to", dir}}
	}}
}

// checkUntar has the diffID that was printed be the right one, and makes the tar
// again of the files and the tar-split.
func checkUntar(ctx context.Context, t *testTar, out, dir, split string) (err error) {
	if id, _, _ := strings.Cut(out, " "); id != t.DiffID {
		return fmt.Errorf("the diffID of %s is %s, not %q", t.Name, t.DiffID, id)
	}
	f, err := os.Open(split)
	if err != nil {
		return err
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("read the tar-split of %s: %w", t.Name, err)
	}
	r := asm.NewOutputTarStream(storage.NewPathFileGetter(dir), storage.NewJSONUnpacker(zip))
	defer r.Close()
	defer context.AfterFunc(ctx, func() { r.Close() })()
	sum := sha256.New()
	_, err = io.Copy(sum, r)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("make %s again of the files and the tar-split: %w", t.Name, err)
	}
	if id := fmt.Sprintf("sha256:%x", sum.Sum(nil)); id != t.DiffID {
		return fmt.Errorf("%s made again of the files and the tar-split is %s, not %s", t.Name, id, t.DiffID)
	}
	return nil
}

// filesContest is from a plain tar to files.
func (b *bench) filesContest(ctx context.Context, c *contest, kind string) error {
	t, err := b.tar(ctx, kind)
	if err != nil {
		return err
	}
	list, err := b.extractors(ctx, kind)
	if err != nil {
		return err
	}
	for _, x := range list {
		c.entrants = append(c.entrants, entrant{name: x.name, tar: t, turn: func(ctx context.Context, d *disk) (figures, error) {
			return b.extract(ctx, d, x, t)
		}})
	}
	return nil
}

// extract is a turn.
func (b *bench) extract(ctx context.Context, d *disk, x extractor, t *testTar) (f figures, err error) {
	if err := t.warm(); err != nil {
		return f, err
	}
	err = x.run(ctx, d, t, func(ctx context.Context, c command) (out string, err error) {
		f, err = timed(ctx, d, func(ctx context.Context) (u usage, err error) {
			out, u, err = c.run(ctx)
			return u, err
		})
		return out, err
	})
	return f, err
}

// run extracts a tar on a disk by way of do, which runs the command, and looks
// at the result.
func (x extractor) run(ctx context.Context, d *disk, t *testTar, do func(context.Context, command) (out string, err error)) error {
	dir, split := d.path("root"), d.path("tar-split.json.gz")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	out, err := do(ctx, x.command(t, dir, split))
	if err != nil {
		return err
	}
	err = t.check(ctx, dir)
	if x.check != nil {
		err = errors.Join(err, x.check(ctx, t, out, dir, split))
	}
	return err
}
