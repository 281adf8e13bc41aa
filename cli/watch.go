package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fleet"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/registry"
)

// watchFlags are the flags of a pull that follows its list.
type watchFlags struct {
	on     bool
	every  time.Duration
	listen string
}

func (f *watchFlags) add(fl *pflag.FlagSet) {
	fl.BoolVar(&f.on, "watch", false, "with --file: stay, and pull again when FILE changes, after a failure, and from\ntime to time; implies --keep-going")
	fl.DurationVar(&f.every, "every", time.Hour, "with --watch: look for all images again after `TIME`; 0: never")
	fl.StringVar(&f.listen, "listen", "", "with --watch: answer /readyz and /metrics at `HOST:PORT`")
}

// check checks the flags.
func (f *watchFlags) check(cmd *cobra.Command, p *pullFlags) error {
	if !f.on {
		for _, name := range []string{"every", "listen"} {
			if cmd.Flags().Changed(name) {
				return fault.New(fault.Usage, "--%s goes with --watch", name)
			}
		}
		return nil
	}
	if p.list == "" || p.list == "-" {
		return fault.New(fault.Usage, "--watch goes with --file FILE, and FILE is no standard input")
	}
	if f.every != 0 && f.every < time.Second {
		return fault.New(fault.Usage, "--every %s: it has to be a second at least, or 0", f.every)
	}
	if f.listen != "" {
		if err := listenable(cmd.Context(), f.listen); err != nil {
			return err
		}
	}
	for _, name := range []string{"dry-run", "json", "output", "rootfs", "restart-engine", "containerd-root", "docker-root"} {
		if cmd.Flags().Changed(name) {
			return fault.New(fault.Usage, "--watch and --%s exclude each other", name)
		}
	}
	return nil
}

// follow pulls the images of the list until the context ends.
func (f *pullFlags) follow(ctx context.Context, s Streams, mode progress.Mode, o pull.Options, names []string) error {
	o.KeepGoing = true
	state := fleet.NewState(versionString())
	loop := &fleet.Watch{
		List: func(ctx context.Context) ([]registry.Reference, error) {
			refs, err := f.references(ctx, s.In, names)
			if errors.Is(err, errNoImages) {
				return nil, nil
			}
			return refs, err
		},
		Run: func(ctx context.Context, refs []registry.Reference) (*pull.Summary, error) {
			sum, err := f.fromRegistries(ctx, s, mode, o, func(*registry.Client) ([]registry.Reference, error) { return refs, nil })
			return sum, f.print(s, brought(sum), err)
		},
		Tell:  func(err error) { printError(s.Err, mode == progress.JSON, err) },
		Every: f.watch.every, State: state, Report: f.report.to,
	}
	if f.watch.listen == "" {
		return loop.Loop(ctx)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.watch.listen)
	if err != nil {
		return fault.WithHint(fmt.Errorf("--listen: %w", err), "choose another address")
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return state.Serve(ctx, l) })
	g.Go(func() error {
		if err := loop.Loop(ctx); err != nil {
			return err
		}
		return errEnded
	})
	if err := g.Wait(); !errors.Is(err, errEnded) {
		return err
	}
	return nil
}

// errEnded ends the server with the loop.
var errEnded = errors.New("the loop has ended")

// brought returns the summary without the images that were there: a list is looked at often,
// and that they are still there is no news.
func brought(sum *pull.Summary) *pull.Summary {
	if sum == nil {
		return nil
	}
	news := *sum
	news.Images = nil
	for _, r := range sum.Images {
		if r.Status != pull.Exists {
			news.Images = append(news.Images, r)
		}
	}
	return &news
}
