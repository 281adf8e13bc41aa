package dockerroot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/critical"
	"github.com/fastpull/fastpull/internal/text"
	"github.com/fastpull/fastpull/overlay"
	"github.com/fastpull/fastpull/progress"
)

// The Engine is stopped for as long as the publication takes. None of these waits is for
// ever, so that it is started in any case.
const (
	stopTime    = 2 * time.Minute // systemd gives a service 90 s, and kills it
	publishTime = time.Minute
	startTime   = 5 * time.Minute // with many containers it takes its time
)

// restart is a staging store that is published at the end of the run, with a restart of the
// Engine.
type restart struct {
	*staging
	host    *host
	options RestartOptions

	mu  sync.Mutex
	ids map[digest.Digest]bool // images of this run
}

// Restart opens the data-root of a running Engine: images are staged, and published in a
// restart of the Engine at the end of the run. Everything that could keep it from that is
// found out before. A dry run makes nothing.
func Restart(ctx context.Context, env *destination.Env, o RestartOptions) (_ destination.Destination, err error) {
	api, err := daemon.Connect(ctx, daemon.Options{Host: o.Host})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, api.Close())
		}
	}()
	h, err := examine(ctx, api, env.Rights, o)
	if err != nil {
		return nil, err
	}
	if env.DryRun {
		return stagingReader(h.root, h.name())
	}
	s, err := stage(ctx, env, h.root)
	if err != nil {
		return nil, err
	}
	return &restart{staging: s, host: h, options: o, ids: make(map[digest.Digest]bool)}, nil
}

// name is the destination for people.
func (h *host) name() string { return fmt.Sprintf("data-root %s of %s", h.root, h.api) }

// Info implements [destination.Destination].
func (r *restart) Info() destination.Info {
	i := r.store.Info()
	i.Name, i.Platform, i.Together = r.host.name(), r.host.api.Platform(), true
	return i
}

// Begin implements [destination.Destination].
func (r *restart) Begin(ctx context.Context, img *destination.Image) (destination.Tx, error) {
	r.mu.Lock()
	r.ids[img.ID] = true
	r.mu.Unlock()
	return r.staging.Begin(ctx, img)
}

// Close implements [destination.Destination].
func (r *restart) Close() error {
	return errors.Join(r.waiting.Tidy(), r.staging.Close(), r.host.api.Close())
}

// Finish implements [destination.Destination]. It publishes all that is staged, also by
// earlier runs. If nothing is, the Engine is not restarted.
func (r *restart) Finish(ctx context.Context) error {
	show := r.env.Progress
	ready, unready, err := r.waiting.Prepare(ctx, func() {
		show.Note("another fastpull is staging images for the same Engine, waiting for it")
	})
	if err != nil {
		return err
	}
	var failures []error
	for _, u := range unready {
		if r.ids[u.ID] {
			failures = append(failures, u.Err)
		} else {
			show.Warn("of an earlier run: %v", u.Err)
		}
	}
	if len(failures) > 0 {
		return errors.Join(failures...)
	}
	if ready, err = r.tag(ctx, ready); err != nil || len(ready) == 0 {
		return err
	}
	// What was found out at the beginning may have changed.
	now, err := daemon.Connect(ctx, daemon.Options{Host: r.options.Host})
	if err != nil {
		return err
	}
	defer now.Close()
	if r.host, err = r.again(ctx, now); err != nil {
		show.Note("the images stay staged, and the next run publishes them")
		return err
	}
	running, err := now.Running(ctx)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return r.publish(ctx, ready, running)
}

// tag gives names to images that the Engine has already, which needs no restart. It returns
// the others. That an image was found by a digest, which the API cannot be told, is not kept.
func (r *restart) tag(ctx context.Context, images []*overlay.Image) (rest []*overlay.Image, err error) {
	for _, img := range images {
		if !r.waiting.NamesOnly(img) {
			rest = append(rest, img)
			continue
		}
		for _, name := range img.Names {
			if strings.Contains(name, "@") {
				continue
			}
			if err := r.host.api.Tag(ctx, img.ID, name); err != nil {
				return nil, err
			}
		}
		if err := r.waiting.Forget(img); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// again examines the Engine once more, by a connection of its own.
func (r *restart) again(ctx context.Context, api *daemon.Engine) (*host, error) {
	h, err := examine(ctx, api, r.env.Rights, r.options)
	if err != nil {
		return r.host, err
	}
	h.api = r.host.api
	return h, nil
}

// away is how long the parts of a restart took.
type away struct{ stop, publish, start time.Duration }

// publish publishes images in a restart of the Engine, and verifies them by its API.
func (r *restart) publish(ctx context.Context, images []*overlay.Image, running []daemon.Container) (err error) {
	show := r.env.Progress
	show.Note("restarting the Engine (%s) to publish %s", r.host.service, text.Count(len(images), "image"))
	// The end of ctx comes too late: the Engine has to be started, and its user to be told.
	ctx = context.WithoutCancel(ctx)
	defer func() { err = fault.Lasting(err) }()
	done, took, started, err := r.whileStopped(ctx, images)
	if !started {
		return err
	}
	api, aerr := r.answers(ctx, &took)
	if err := errors.Join(err, aerr); err != nil {
		return err
	}
	defer api.Close()
	total := took.stop + took.publish + took.start
	show.Note("the Engine did not answer for %s: %s to stop, %s to publish, %s to start",
		progress.Duration(total), progress.Duration(took.stop), progress.Duration(took.publish), progress.Duration(took.start))
	var failures []error
	for _, p := range done {
		failures = append(failures, verify(ctx, api, images, p))
	}
	failures = append(failures, r.survived(ctx, api, running), r.waiting.Sync(ctx))
	return errors.Join(failures...)
}

// whileStopped stops the Engine, publishes, and starts the Engine again whatever happens.
func (r *restart) whileStopped(ctx context.Context, images []*overlay.Image) (done []overlay.Published, took away, started bool, err error) {
	leave := critical.Enter()
	defer func() {
		// While the Engine is down, no second signal ends the process: it has that to report.
		if started {
			leave()
		}
	}()
	begun := time.Now()
	lap := func(to *time.Duration) {
		*to = time.Since(begun)
		begun = time.Now()
	}
	err = within(ctx, stopTime, func(ctx context.Context) error {
		if err := r.host.service.Stop(ctx); err != nil {
			return fmt.Errorf("stop the Engine: %w", err)
		}
		return r.host.process.gone(ctx)
	})
	lap(&took.stop)
	if err == nil {
		err = within(ctx, publishTime, func(ctx context.Context) (err error) {
			done, err = r.waiting.Publish(ctx, images)
			return err
		})
		lap(&took.publish)
	}
	serr := within(ctx, startTime, r.host.service.Start)
	if serr != nil {
		serr = fault.WithHint(fmt.Errorf("start the Engine again: %w", serr), "it is stopped: start it, and look at its log")
	}
	lap(&took.start)
	return done, took, serr == nil, errors.Join(err, serr)
}

func within(ctx context.Context, limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done after %v", limit))
	defer cancel()
	return do(ctx)
}

// answers waits until the Engine answers again.
func (r *restart) answers(ctx context.Context, took *away) (api *daemon.Engine, err error) {
	begun := time.Now()
	err = within(ctx, startTime, func(ctx context.Context) error {
		for {
			var err error
			if api, err = daemon.Connect(ctx, daemon.Options{Host: r.options.Host}); err == nil {
				return nil
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return fault.WithHint(fmt.Errorf("the Engine does not answer after it was started again: %w", err), "look at its log")
			}
		}
	})
	took.start += time.Since(begun)
	return api, err
}

// verify checks that the Engine has an image by its tags.
func verify(ctx context.Context, api *daemon.Engine, images []*overlay.Image, p overlay.Published) error {
	at := slices.IndexFunc(images, func(img *overlay.Image) bool { return img.ID == p.ID })
	var diffIDs []digest.Digest
	for _, l := range images[at].Layers {
		diffIDs = append(diffIDs, l.DiffID)
	}
	failures := []error{api.Verify(ctx, p.ID, diffIDs)}
	for _, name := range p.Names {
		if !strings.Contains(name, "@") {
			failures = append(failures, api.VerifyName(ctx, p.ID, name))
		}
	}
	return errors.Join(failures...)
}

// survived warns of containers that have run before and do not run now.
func (r *restart) survived(ctx context.Context, api *daemon.Engine, before []daemon.Container) error {
	now, err := api.Running(ctx)
	if err != nil {
		return err
	}
	for _, c := range before {
		if !slices.ContainsFunc(now, func(n daemon.Container) bool { return n.ID == c.ID }) {
			r.env.Progress.Warn("container %s ran before the restart, and does not run now", c.Name)
		}
	}
	return nil
}
