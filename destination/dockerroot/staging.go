package dockerroot

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/overlay"
)

// staging is a staging store that images are brought into.
type staging struct {
	*store
	waiting *overlay.Staging
	dir     string // the data-root
}

// Stage opens the staging store for the data-root at dir, on which a dockerd may run. A dry
// run makes nothing.
func Stage(ctx context.Context, env *destination.Env, dir string) (destination.Destination, error) {
	if env.DryRun {
		return stagingReader(dir, stagedName(dir))
	}
	s, err := stage(ctx, env, dir)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func stagedName(dir string) string { return "store " + dir + ", staged" }

func stage(ctx context.Context, env *destination.Env, dir string) (*staging, error) {
	g, err := overlay.OpenStaging(ctx, dir, overlay.Options{NoSync: env.NoSync, Progress: env.Progress, Waiting: func() {
		env.Progress.Note("another fastpull is publishing or removing what is staged for the same Docker, waiting for it")
	}})
	if err != nil {
		return nil, err
	}
	return &staging{newStore(ctx, env, g.Store), g, g.Base()}, nil
}

// Info implements [destination.Destination].
func (s *staging) Info() destination.Info {
	i := s.store.Info()
	i.Name = stagedName(s.dir)
	return i
}

// Finish implements [destination.Destination].
func (s *staging) Finish(ctx context.Context) error {
	if err := s.store.Finish(ctx); err != nil {
		return err
	}
	list, _, err := s.waiting.Waiting()
	if err == nil && len(list) > 0 {
		s.env.Progress.Note("Docker does not see what is staged before it is published: stop Docker, run fastpull publish --store %s, and start Docker", s.dir)
	}
	return err
}

// stagingReader is the destination of a dry run.
func stagingReader(dir, name string) (destination.Destination, error) {
	r, err := overlay.StagingReader(dir)
	if err != nil {
		return nil, err
	}
	l := &lookOnly{info(r.Dir()), r}
	l.info.Name = name
	return l, nil
}

// Publication is what [Publish] has done.
type Publication struct {
	Store  string              `json:"store"`
	Images []overlay.Published `json:"images"`
	Failed []Failure           `json:"failed"`
}

// Failure is a staged image that was not published.
type Failure struct {
	ID    digest.Digest `json:"id"`
	Error string        `json:"error"`
}

// Publish publishes what is staged for the data-root at dir, whose dockerd must not run.
// The error is also that of images that cannot be published. waiting is called if another
// process has the staging store; nil is fine.
func Publish(ctx context.Context, dir string, o overlay.Options, waiting func()) (p Publication, err error) {
	p = Publication{Images: []overlay.Published{}, Failed: []Failure{}}
	r, err := overlay.StagingReader(dir)
	if err != nil {
		return p, err
	}
	p.Store = r.Base()
	if list, damaged, err := r.Waiting(); err == nil && len(list)+len(damaged) == 0 {
		return p, nil
	}
	if err := overlay.Usable(dir); err != nil { // a dockerd runs, say
		return p, err
	}
	o.Waiting = waiting
	g, err := overlay.OpenStaging(ctx, dir, o)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	ready, unready, err := g.Prepare(ctx, waiting)
	if err != nil {
		return p, err
	}
	var failures []error
	for _, u := range unready {
		failures = append(failures, u.Err)
		p.Failed = append(p.Failed, Failure{u.ID, u.Err.Error()})
	}
	if len(ready) > 0 {
		done, err := g.Publish(ctx, ready)
		p.Images = append(p.Images, done...)
		failures = append(failures, err, fault.Lasting(errors.Join(g.Sync(ctx), g.Tidy())))
	}
	return p, errors.Join(failures...)
}
