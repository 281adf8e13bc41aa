package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

func main() {
	// A second signal does not shorten the end: mounts would be left.
	ctx, _ := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	fastpull, untar, match, against, cache, dirs, disk, json string
	rounds                                                   int
	limit                                                    time.Duration
	scale                                                    float64
	syscalls                                                 bool
}

// run is main without the process. Its result is the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.fastpull, "fastpull", "./fastpull", "measure this `program`; several with commas are compared with the first")
	flags.StringVar(&o.untar, "untar", "", "extract tars with this build of e2e/bench/untar, a `program`; several with commas are compared with the first (default: build it)")
	flags.StringVar(&o.match, "run", ".", "hold the contests that match this `regexp`: "+strings.Join(contestNames, ", "))
	flags.IntVar(&o.rounds, "n", 3, "have `N` rounds")
	flags.StringVar(&o.against, "against", strings.Join(others, ","), "compare with those of this `list` that can do what a contest is about, or with none")
	flags.StringVar(&o.cache, "cache", "", "keep images and tars in `DIR` (default: fastpull-bench in the user's cache folder)")
	flags.StringVar(&o.dirs, "dirs", "", "make the images of these directories, a layer each, and the tars that are not made up of all of them, in place of the big ones")
	flags.StringVar(&o.disk, "disk", "", "have the files of disks in `DIR`, whose file system has direct I/O, in place of memory")
	flags.Float64Var(&o.scale, "scale", 1, "make `F` times as many files up for load/py, files/python and files/empty, and images for baked/hundred")
	flags.BoolVar(&o.syscalls, "syscalls", false, "count system calls in place of time, in the contests files/ that match, once for each")
	flags.StringVar(&o.json, "json", "", "write all figures to `FILE`")
	flags.DurationVar(&o.limit, "timeout", 10*time.Minute, "give up a turn after this `time`")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return int(fault.Usage)
	}
	err := func() error {
		if flags.NArg() > 0 {
			return fault.New(fault.Usage, "what is %q? see -help", flags.Arg(0))
		}
		return o.run(ctx, stdout, stderr)
	}()
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "bench: interrupted")
		return 130
	}
	fmt.Fprintf(stderr, "bench: %v\n", err)
	if hint := fault.Advice(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return int(fault.KindOf(err))
}

func (o options) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	b := &bench{rounds: o.rounds, limit: o.limit, scale: o.scale, disk: o.disk}
	match, err := regexp.Compile(o.match)
	if err != nil {
		return fault.New(fault.Usage, "-run: %w", err)
	}
	if o.rounds < 1 {
		return fault.New(fault.Usage, "-n %d: there has to be a round", o.rounds)
	}
	if o.scale <= 0 || o.scale > 100 {
		return fault.New(fault.Usage, "-scale %v: it has to be more than 0 and at most 100", o.scale)
	}
	if o.syscalls && o.json != "" {
		return fault.New(fault.Usage, "-syscalls prints a table, and has nothing for -json")
	}
	names := matching(match, o.syscalls)
	if len(names) == 0 {
		return fault.New(fault.Usage, "-run %s: there are %s", o.match, strings.Join(matching(regexp.MustCompile("."), o.syscalls), ", "))
	}
	pulls := slices.ContainsFunc(names, ofImages)
	if b.against, err = parseAgainst(o.against); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return fault.WithHint(fault.New(fault.Denied, "only root can make disks and start dockerd"), "sudo, or su -c")
	}
	if pulls {
		if b.builds, err = builds(o.fastpull); err != nil {
			return fault.WithHint(fault.Wrap(fault.NotFound, err), "build it: go build -o fastpull .")
		}
	}
	if o.untar != "" {
		if b.untars, err = builds(o.untar); err != nil {
			return fault.WithHint(fault.Wrap(fault.NotFound, err), "build it: go build ./e2e/bench/untar")
		}
	}

	release, err := b.open(ctx, o, pulls, func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if o.syscalls {
		return b.countCalls(ctx, names, stdout)
	}
	contests, err := b.contests(ctx, names)
	for _, c := range contests {
		if err == nil {
			err = b.hold(ctx, c)
			err = errors.Join(err, c.printTable(stdout))
		}
	}
	if o.json != "" && len(contests) > 0 {
		err = errors.Join(err, writeJSON(o.json, contests))
	}
	return err
}

// parseAgainst reads the list of others to compare with.
func parseAgainst(list string) ([]string, error) {
	if list == "" || list == "none" {
		return nil, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(others, name) {
			return nil, fault.New(fault.Usage, "-against %s: there are %s, or none", name, strings.Join(others, ", "))
		}
	}
	return names, nil
}

// open prepares the folders, and starts the registry if there is something to
// pull. What release does is all that has to be done at the end.
func (b *bench) open(ctx context.Context, o options, pulls bool, say func(string, ...any)) (_ func() error, err error) {
	var undo []func() error
	undoAll := func() error {
		var errs []error
		for _, f := range slices.Backward(undo) {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, undoAll())
		}
	}()
	b.source = &source{say: say, scale: o.scale}
	if o.dirs == "" {
		b.source.content, err = defaultContent(ctx)
	} else {
		b.source.content, err = givenContent(o.dirs)
	}
	if err != nil {
		return nil, err
	}
	lock, err := b.lockCache(o.cache)
	if err != nil {
		return nil, err
	}
	undo = append(undo, lock.Close)
	// Layers on their way to the registry go into the cache folder, which has
	// room; sockets and mounts go where names are short.
	if b.temp, err = os.MkdirTemp("", "fpbench-"); err != nil {
		return nil, err
	}
	undo = append(undo, func() error {
		if err := unmountBelow(b.temp); err != nil {
			return err // or what is mounted would be removed
		}
		return os.RemoveAll(b.temp)
	})
	if b.source.temp, err = os.MkdirTemp(b.cache, "making-"); err != nil {
		return nil, err
	}
	undo = append(undo, func() error { return os.RemoveAll(b.source.temp) })
	if !pulls {
		return undoAll, nil
	}
	if b.source.registry, err = startRegistry(ctx, filepath.Join(b.cache, "registry"), b.temp); err != nil {
		return nil, fault.WithHint(err, "apt-get install docker-registry")
	}
	undo = append(undo, func() error { b.source.registry.stop(); return nil })
	undo = append(undo, func() error {
		var errs []error
		for _, end := range slices.Backward(b.lines) {
			errs = append(errs, end())
		}
		return errors.Join(errs...)
	})
	return undoAll, nil
}

// lockCache opens the cache folder for this process alone: two that measure at
// the same time would measure each other.
func (b *bench) lockCache(dir string) (*os.File, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fault.WithHint(fmt.Errorf("find the cache folder: %w", err), "name one: -cache DIR")
		}
		dir = filepath.Join(base, "fastpull-bench")
	}
	var err error
	if b.cache, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(b.cache, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(b.cache, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("lock %s: %w; another benchmark is using it", lock.Name(), err)
	}
	return lock, nil
}
