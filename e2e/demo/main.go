package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fastpull/fastpull/fault"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process. Its result is the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	d := demo{sh: shell{out: stdout, err: stderr}, root: os.Geteuid() == 0}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&d.sh.program, "fastpull", "./fastpull", "the `program` to show")
	flags.StringVar(&d.image, "image", "", "pull `HOST/NAME:TAG` in place of a sample image")
	flags.StringVar(&d.dir, "dir", "", "make the working folder in `DIR` (default: the system's folder for temporary files)")
	flags.BoolVar(&d.keep, "keep", false, "leave the working folder there at the end")
	timeout := flags.Duration("timeout", 10*time.Minute, "give up after this `time`")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return int(fault.Usage)
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(stderr, "demo: what is %q? see -help\n", flags.Arg(0))
		return int(fault.Usage)
	}

	limited, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not done after %v", *timeout))
	defer cancel()
	err := d.run(limited)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "demo: interrupted")
		return 130
	case limited.Err() != nil:
		err = context.Cause(limited)
	}
	fmt.Fprintf(stderr, "demo: %v\n", err)
	if hint := fault.Advice(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return int(fault.KindOf(err))
}
