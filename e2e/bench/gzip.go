package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// What package inflate is compared with: programs of Debian, and Go's libraries.
const (
	igzip      = "igzip"
	libdeflate = "libdeflate"
	pigz       = "pigz"
	klauspost  = "klauspost"
	pgzip      = "pgzip"
	stdlib     = "stdlib"
)

// gunzipper decodes a gzip file to its standard output.
type gunzipper struct {
	name    string
	program string
	args    []string // before the file's name
}

// command runs it on one core, the first that this process may use: what is
// compared is how fast a core decodes, and some use several.
func (g gunzipper) command(file string, out io.Writer) (command, error) {
	var cores unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cores); err != nil {
		return command{}, fmt.Errorf("ask which cores there are: %w", err)
	}
	first := 0
	for !cores.IsSet(first) {
		first++
	}
	args := slices.Concat([]string{"--cpu-list", strconv.Itoa(first), g.program}, g.args, []string{file})
	return command{program: "taskset", args: args, out: out}, nil
}

// gunzippers are all that compete, inflate first.
func (b *bench) gunzippers(ctx context.Context) ([]gunzipper, error) {
	if b.gunzip == "" {
		var err error
		if b.gunzip, err = b.build(ctx, "gunzip"); err != nil {
			return nil, err
		}
	}
	list := []gunzipper{{"inflate", b.gunzip, nil}}
	for _, p := range []struct {
		other, program, of string
		args               []string
	}{
		{igzip, "igzip", "isal", []string{"-d", "-c"}},
		{libdeflate, "libdeflate-gunzip", "libdeflate-tools", []string{"-c"}},
		{pigz, "unpigz", "pigz", []string{"-c"}},
	} {
		if !slices.Contains(b.against, p.other) {
			continue
		}
		program, err := firstOf(p.program)
		if err != nil {
			return nil, fault.WithHint(fault.Wrap(fault.NotFound, err), "apt-get install %s", p.of)
		}
		list = append(list, gunzipper{p.program, program, p.args})
	}
	for _, library := range []string{klauspost, pgzip, stdlib} {
		if slices.Contains(b.against, library) {
			list = append(list, gunzipper{library, b.gunzip, []string{"-with", library}})
		}
	}
	return list, nil
}

// gzipContest is from a gzip file in the page cache to nowhere.
func (b *bench) gzipContest(ctx context.Context, c *contest, kind string) error {
	t, err := b.tar(ctx, kind)
	if err != nil {
		return err
	}
	file, err := b.gzipped(ctx, t)
	if err != nil {
		return err
	}
	list, err := b.gunzippers(ctx)
	if err != nil {
		return err
	}
	for _, g := range list {
		if err := g.check(ctx, file, t); err != nil {
			return err
		}
		c.entrants = append(c.entrants, entrant{name: g.name, tar: t, diskless: true, turn: func(ctx context.Context, _ *disk) (figures, error) {
			return clocked(ctx, func(ctx context.Context) (u usage, err error) {
				cmd, err := g.command(file, io.Discard)
				if err == nil {
					_, u, err = cmd.run(ctx)
				}
				return u, err
			})
		}})
	}
	return nil
}

// check decodes the file once, and hashes what comes.
func (g gunzipper) check(ctx context.Context, file string, t *testTar) error {
	sum := sha256.New()
	cmd, err := g.command(file, sum)
	if err != nil {
		return err
	}
	if _, _, err := cmd.run(ctx); err != nil {
		return err
	}
	if id := fmt.Sprintf("sha256:%x", sum.Sum(nil)); id != t.DiffID {
		return fmt.Errorf("%s decodes %s to %s, not %s", g.name, file, id, t.DiffID)
	}
	return nil
}

// gzipped finds a tar compressed in the cache, or compresses it: by pigz what
// stands for a Python image, and by the standard library, as docker push does, all
// others.
func (b *bench) gzipped(ctx context.Context, t *testTar) (file string, err error) {
	file = t.path + ".gz"
	if _, err := os.Stat(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	b.source.say("%s: compressing the tar, which is done once and takes a minute or two", t.Name)
	temp, err := os.CreateTemp(b.source.temp, t.Name+"-*.gz")
	if err != nil {
		return "", err
	}
	if t.Name == python {
		err = byPigz(ctx, temp, t.path)
	} else {
		err = byStdlib(ctx, temp, t.path)
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return "", fmt.Errorf("compress %s: %w", t.path, err)
	}
	return file, os.Rename(temp.Name(), file)
}

func byPigz(ctx context.Context, to *os.File, file string) error {
	cmd := exec.CommandContext(ctx, "pigz", "-c", file)
	cmd.Stdout = to
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fault.WithHint(err, "apt-get install pigz")
}

func byStdlib(ctx context.Context, to io.Writer, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	// A read that waits for nothing: closed, it ends.
	defer context.AfterFunc(ctx, func() { f.Close() })()
	out := bufio.NewWriterSize(to, 256<<10)
	w := gzip.NewWriter(out)
	_, err = io.Copy(w, f)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, w.Close(), out.Flush())
}
