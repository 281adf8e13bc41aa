package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/nameset"
	"github.com/fastpull/fastpull/internal/openfiles"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/registry"
)

// resolving is how many references are looked up at a time.
const resolving = 8

// run is the state that all images of a run share.
type run struct {
	Options
	to      destination.Destination
	info    destination.Info
	env     *destination.Env
	fetcher *fetch.Fetcher
	looking chan struct{} // has an element for each reference that is looked up
	claimed claims        // of a dry run

	mu    sync.Mutex
	ready []ocispec.Descriptor // the blobs of images that become one thing at the end
}

// Run pulls all references of o. It always returns a summary. The error joins those of images
// that failed, or is the cause that ended the run.
func Run(ctx context.Context, o Options) (_ *Summary, err error) {
	begun := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, err := start(ctx, o)
	if err != nil {
		return &Summary{Images: []Result{}}, err
	}
	sum := &Summary{Destination: r.info.Name, Images: make([]Result, len(o.References))}
	err = r.images(ctx, cancel, sum.Images)
	if !o.DryRun {
		err = r.finish(ctx, sum.Images, err)
	}
	cancel(nil)
	err = errors.Join(err, r.to.Close())
	r.env.LeftOut.Warn(o.Progress, r.env.Rights)
	sum.BytesFetched, sum.BytesSent = r.fetcher.Fetched(), r.env.Sent.Load()
	if err != nil && !o.DryRun {
		sum.BytesKept = r.fetcher.Partial.Bytes() + r.env.Draft.Bytes
		sum.Stays = r.env.Draft.File
	}
	sum.Seconds = time.Since(begun).Seconds()
	if o.DryRun {
		sum.BytesToFetch = new(toFetch(sum.Images))
	}
	return sum, err
}

// finish ends the destination's work, after images returned err. Images that become one
// thing at the end are reported now.
func (r *run) finish(ctx context.Context, results []Result, err error) error {
	ferr := cmp.Or(context.Cause(ctx), errStopped)
	some := slices.ContainsFunc(results, func(res Result) bool { return res.Status != Failed })
	if some && (err == nil || r.KeepGoing && ctx.Err() == nil) {
		if ferr = r.to.Finish(ctx); ferr == nil {
			r.fetcher.Partial.Release(r.ready)
		}
		err = errors.Join(err, ferr)
	}
	if !r.info.Together {
		return err
	}
	for i := range results {
		res := &results[i]
		if res.Status == Failed {
			continue
		}
		if ferr != nil {
			res.Status, res.Err, res.Error = Failed, ferr, ferr.Error()
		}
		if r.Done != nil {
			r.Done(*res)
		}
	}
	return err
}

// start opens the destination of a run.
func start(ctx context.Context, o Options) (r *run, err error) {
	if err := openfiles.Check(); err != nil {
		return nil, err
	}
	fetcher := fetch.New(o.Source, o.Layers, o.Gzip, o.Progress)
	r = &run{
		Options: o,
		env: &destination.Env{
			Source: o.Source, Progress: o.Progress, DryRun: o.DryRun, NoSync: o.NoSync, NoResume: o.NoResume, References: len(o.References),
			Rights: privilege.Current(), Names: new(nameset.Budget), LeftOut: new(destination.LeftOut), Sent: new(atomic.Int64),
		},
		fetcher: fetcher,
		looking: make(chan struct{}, resolving),
	}
	var note string
	if r.to, note, err = o.Open(ctx, r.env); err != nil {
		return nil, err
	}
	r.info = r.to.Info()
	r.openPartial()
	if o.Chosen != nil {
		o.Chosen(r.info.Name, note)
	}
	return r, nil
}

// content returns what gives the content of an image's layers. The bytes downloaded are
// added to fetched.
func (r *run) content(ref registry.Reference, fetched *atomic.Int64) func(image.Layer) *destination.Content {
	return func(l image.Layer) *destination.Content {
		return destination.NewContent(r.fetcher, ref, l, r.Progress, fetched)
	}
}

// openPartial chooses the directory for partial blobs.
func (r *run) openPartial() {
	dir := cmp.Or(r.info.PartialDir, r.CacheDir)
	if r.NoResume || dir == "" {
		return
	}
	r.fetcher.Partial = fetch.NewPartialBlobs(dir)
	if !r.DryRun {
		r.fetcher.Partial.Sweep()
	}
}

// images brings every image, and joins the errors of those that failed.
func (r *run) images(ctx context.Context, cancel context.CancelCauseFunc, results []Result) error {
	var g errgroup.Group
	var mu sync.Mutex
	var failures []error
	for i, ref := range r.References {
		g.Go(func() error {
			start := time.Now()
			if ordered, ok := r.to.(destination.Ordered); ok {
				defer ordered.Ended(i)
			}
			res, err := r.image(ctx, i, ref)
			res.Reference, res.Took = ref.String(), time.Since(start)
			res.Seconds = res.Took.Seconds()
			mu.Lock()
			defer mu.Unlock()
			tell := true
			if err != nil {
				// Images that end because the run does are not news.
				if tell = ctx.Err() == nil; tell {
					failures = append(failures, fmt.Errorf("%s: %w", ref, err))
				} else {
					err = context.Cause(ctx)
				}
				res.Status, res.Err, res.Error = Failed, err, err.Error()
				if !r.KeepGoing {
					cancel(errStopped)
				}
			}
			results[i] = res
			if tell && r.Done != nil && (err != nil || r.DryRun || !r.info.Together) {
				r.Done(res)
			}
			return nil
		})
	}
	_ = g.Wait()
	switch {
	case !slices.ContainsFunc(results, func(res Result) bool { return res.Status == Failed }):
		return nil // an end that comes now comes too late
	case len(failures) == 0:
		return context.Cause(ctx)
	case r.KeepGoing && len(failures) < len(r.References):
		// A part was done: neither success nor any one kind of failure.
		return fault.Wrap(fault.Failed, errors.Join(failures...))
	}
	return errors.Join(failures...)
}

var errStopped = errors.New("stopped, since another image failed")

// image resolves one reference, and brings what it names.
func (r *run) image(ctx context.Context, nth int, ref registry.Reference) (res Result, err error) {
	im, err := r.resolve(ctx, nth, ref)
	if im != nil {
		res.Digest, res.From = im.Found, im.from
	}
	if err != nil {
		return res, err
	}
	res.Status = Pulled
	switch {
	case im.whole:
		res.Status = Exists
	case r.DryRun:
		res.Status = Planned
	}
	res.ImageID, res.Platform, res.Layers = im.ID, image.FormatPlatform(im.Platform), len(im.Layers)
	switch {
	case im.whole && r.DryRun:
		res.Plan = there(im.blobs)
	case im.whole:
	case r.DryRun:
		res.Plan, err = r.plan(ctx, im)
	default:
		res.BytesFetched, err = r.bring(ctx, im)
	}
	if err == nil && !r.DryRun {
		r.release(im.blobs)
	}
	return res, err
}

// release removes the partial blobs of an image, or notes them for the end of the run. The blobs
// of images that failed stay for the next run.
func (r *run) release(blobs []ocispec.Descriptor) {
	if !r.info.Together {
		r.fetcher.Partial.Release(blobs)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = append(r.ready, blobs...)
}

// bring brings an image to the destination. It returns the bytes downloaded for it.
func (r *run) bring(ctx context.Context, im *resolved) (int64, error) {
	var fetched atomic.Int64
	im.Content = r.content(im.Ref, &fetched)
	tx, err := r.to.Begin(ctx, &im.Image)
	if err != nil {
		return fetched.Load(), err
	}
	if err = layers(ctx, tx, im.Content); err == nil {
		err = tx.Commit(ctx)
	} else {
		err = errors.Join(err, tx.Abort())
	}
	return fetched.Load(), err
}

// layers brings all layers of a transaction, at the same time.
func layers(ctx context.Context, tx destination.Tx, content func(image.Layer) *destination.Content) error {
	list := tx.Layers()
	release, err := tx.Space().Reserve(destination.Needs(list))
	if err != nil {
		return err
	}
	defer release()
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range list {
		g.Go(func() error { return tx.Layer(ctx, l.Layer, content(l.Layer)) })
	}
	return g.Wait()
}
