package pull

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/registry"
	"github.com/fastpull/fastpull/unpack"
)

// maxConfig is the most bytes that an image's config may have.
const maxConfig = 8 << 20

// resolving is how many references are looked up at a time.
const resolving = 8

// target is a destination at work.
type target interface {
	// platform is what an index is searched for if the user did not say.
	platform() ocispec.Platform
	// adopt gives the reference's names to an image that the target has as a
	// whole, and returns it; nil if it has not. found is the digest of what the
	// reference names; img is the image, or nil while it is not known: then one
	// may be adopted that runs on the wanted platform.
	adopt(ctx context.Context, ref registry.Reference, found digest.Digest, img *image.Image, want ocispec.Platform) (*image.Image, error)
	// put brings a whole image, and returns the bytes that were fetched for it.
	put(ctx context.Context, im *resolved) (fetched int64, err error)
	// lasts tells if an image that was put is there for good, before finish.
	lasts() bool
	// finish makes visible what waits for the end of the run.
	finish(ctx context.Context) error
	// close ends everything, and removes what is not finished.
	close() error
}

// resolved is an image that is to be fetched.
type resolved struct {
	ref    registry.Reference
	found  digest.Digest   // of what ref names, a manifest or an index
	nth    int             // of the run's references
	top    *image.Manifest // what ref names
	topRaw registry.Manifest
	tree   *image.Tree       // of top, kept where more than one of its images is wanted
	own    registry.Manifest // the image's, which is topRaw if that is no index
	entry  image.Entry       // of own in the index
	nested [][]byte          // the indexes in the index that lead to own
	img    *image.Image
	from   string               // the host that knew found
	blobs  []ocispec.Descriptor // its layers', if they are known
	plan   []PlannedLayer       // of a dry run
}

// tags returns the tag that the reference names, in Docker's familiar form; none
// if it names a digest alone.
func tags(ref registry.Reference) []string {
	if ref.Tag() == "" {
		return nil
	}
	return []string{ref.Familiar() + ":" + ref.Tag()}
}

// run is the state that all images of a run share.
type run struct {
	Options
	ctx     context.Context // of the whole run: shared calls end with it
	src     source
	slots   *slots
	cores   *unpack.Cores
	memory  *unpack.Memory
	fetched atomic.Int64
	sent    atomic.Int64
	order   order // in which images end
	laid    order // in which they get their places in an archive
	left    leftOut
	disk    disk // that the images go to
	keeper  keeper
	rights  privilege.Process
}

// TempDir is where layers wait if nobody says where.
func TempDir() string { return cmp.Or(os.Getenv("TMPDIR"), "/var/tmp") }

// startRun returns a run from registries, with what the options leave open.
func startRun(ctx context.Context, o Options) *run {
	if o.Layers <= 0 {
		o.Layers = max(4, runtime.NumCPU()+1)
	}
	o.TempDir = cmp.Or(o.TempDir, TempDir())
	return &run{
		Options: o, ctx: ctx, src: registries{o.Registry},
		slots: newSlots(o.Layers), cores: unpack.NewCores(min(runtime.GOMAXPROCS(0), o.Layers)), memory: unpack.NewMemory(0),
		rights: privilege.Current(),
	}
}

// Run pulls all references of o. The error is that of the images that failed, or
// what ended the run; the summary is there in both cases.
func Run(ctx context.Context, o Options) (_ *Summary, err error) {
	start := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := startRun(ctx, o)
	o = r.Options
	defer r.disk.close()
	if o.From != nil {
		if _, r.src, err = carriedBy(o.From); err != nil {
			return &Summary{Images: []Result{}}, err
		}
	}
	t, dest, err := r.open(ctx)
	if err != nil {
		return &Summary{Images: []Result{}}, err
	}
	if dest.Kind == Store {
		r.keepIn(PartialDir(dest.path))
	} else {
		r.keepIn(o.CacheDir)
	}
	if o.Chosen != nil {
		o.Chosen(dest)
	}

	sum := &Summary{Destination: dest.Name, Images: make([]Result, len(o.References))}
	err = r.images(ctx, cancel, t, sum.Images)
	whole := slices.ContainsFunc(sum.Images, func(res Result) bool { return res.Status != Failed })
	var ferr error
	if whole && (err == nil || o.KeepGoing && ctx.Err() == nil) {
		if ferr = t.finish(ctx); ferr == nil {
			r.keeper.releaseAll()
		}
		err = errors.Join(err, ferr)
	} else {
		ferr = cmp.Or(context.Cause(ctx), errStopped)
	}
	if !t.lasts() && !r.DryRun {
		r.tellAll(sum.Images, ferr)
	}
	cancel(nil)
	err = errors.Join(err, t.close())
	r.left.warn(o.Progress, r.rights)
	sum.BytesFetched, sum.BytesSent = r.fetched.Load(), r.sent.Load()
	sum.Seconds = time.Since(start).Seconds()
	if o.DryRun {
		sum.BytesToFetch = new(toFetch(sum.Images))
	}
	return sum, err
}

// tellAll ends the images of a destination that has nothing before finish, which has
// returned err.
func (r *run) tellAll(results []Result, err error) {
	for i := range results {
		res := &results[i]
		if res.Status == Failed {
			continue
		}
		if err != nil {
			res.Status, res.Err, res.Error = Failed, err, err.Error()
		}
		if r.Done != nil {
			r.Done(*res)
		}
	}
}

// images does every image, and joins the errors of those that failed.
func (r *run) images(ctx context.Context, cancel context.CancelCauseFunc, t target, results []Result) error {
	var g errgroup.Group
	var mu sync.Mutex
	var failures []error
	look := make(chan struct{}, resolving)
	for i, ref := range r.References {
		g.Go(func() error {
			start := time.Now()
			defer r.order.end(i)
			defer r.laid.end(i)
			res, err := r.image(ctx, t, i, ref, look)
			res.Reference, res.Took = ref.String(), time.Since(start)
			res.Seconds = res.Took.Seconds()
			mu.Lock()
			defer mu.Unlock()
			tell := true
			if err != nil {
				// Those that end because the run does are not news.
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
			if tell && r.Done != nil && (err != nil || t.lasts() || r.DryRun) {
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
		// A part was done: neither all well nor any one kind of failure.
		return fault.Wrap(fault.Failed, errors.Join(failures...))
	}
	return errors.Join(failures...)
}

var errStopped = errors.New("stopped, since another image failed")

// image resolves one reference and puts what it names.
func (r *run) image(ctx context.Context, t target, nth int, ref registry.Reference, look chan struct{}) (Result, error) {
	select {
	case look <- struct{}{}:
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
	im, have, err := r.resolve(ctx, t, ref)
	<-look
	res := Result{Status: Exists}
	if im != nil {
		im.nth = nth
		res.Digest, res.From = im.found, im.from
	}
	if err != nil {
		return res, err
	}
	img := have
	if img == nil {
		img, res.Status = im.img, Pulled
		if r.DryRun {
			res.Status = Planned
		}
	}
	res.ImageID, res.Platform, res.Layers = img.ID, image.FormatPlatform(img.Platform), len(img.Layers)
	if have != nil {
		if t.lasts() {
			r.keeper.release(im.blobs)
		}
		return res, nil
	}
	res.BytesFetched, err = t.put(ctx, im)
	res.Plan = im.plan
	if err == nil && t.lasts() {
		r.keeper.release(im.blobs)
	}
	return res, err
}

// resolve finds out what a reference names: an image that is to be fetched, or
// one that the target has already.
func (r *run) resolve(ctx context.Context, t target, ref registry.Reference) (im *resolved, have *image.Image, err error) {
	want := t.platform()
	if r.Platform != nil {
		want = *r.Platform
	}
	got, err := r.src.Manifest(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	im = &resolved{ref: ref, found: got.Digest, from: got.From, topRaw: got}
	tree, err := r.tree(ref, got)
	if err != nil {
		return im, nil, err
	}
	im.top, im.blobs = tree.Top.Manifest, tree.Top.Layers
	if have, err := t.adopt(ctx, ref, im.found, nil, want); have != nil || err != nil {
		return im, completed(have, want), err
	}
	leaf, err := tree.Select(ctx, want)
	if fault.KindOf(err) == fault.NotFound && r.Bundle.All {
		// It is the one that Docker finds: any that runs on some machine.
		if first, ferr := tree.Select(ctx, anyLinux); ferr == nil {
			leaf, want, err = first, anyLinux, nil
		}
	}
	if err != nil {
		return im, nil, err
	}
	im.own, im.entry, im.blobs = rawOf(leaf.Document), leaf.Entry, leaf.Layers
	for _, d := range leaf.Entry.In {
		im.nested = append(im.nested, tree.Opened(ocispec.Descriptor{Digest: d}).Bytes)
	}
	if im.img, err = tree.Image(ctx, leaf.Entry, leaf.Document); err != nil {
		return im, nil, err
	}
	if err := r.fits(ref, im.img, want); err != nil {
		return im, nil, err
	}
	im.img = completed(im.img, want)
	if im.top.IsIndex() && r.Bundle.several() {
		im.tree = tree
	}
	have, err = t.adopt(ctx, ref, im.found, im.img, want)
	return im, completed(have, want), err
}

// anyLinux is the platform that stands for all on which linux runs.
var anyLinux = ocispec.Platform{OS: "linux"}

// completed returns an image with the wanted architecture if its config names none. It
// may be nil.
func completed(img *image.Image, want ocispec.Platform) *image.Image {
	if img == nil {
		return nil
	}
	whole := *img
	whole.Platform = image.Complete(img.Platform, want)
	return &whole
}

// fits checks the platform that an image's config names.
func (r *run) fits(ref registry.Reference, img *image.Image, want ocispec.Platform) error {
	have := img.Platform
	if have.OS != "linux" {
		return fault.New(fault.Failed, "the image is for %s, fastpull handles images for linux", image.FormatPlatform(have))
	}
	if image.Runs(want, have) > 0 {
		return nil
	}
	for _, p := range r.Bundle.Platforms {
		if image.Runs(p, have) > 0 {
			return nil
		}
	}
	if r.Platform != nil {
		return fault.New(fault.NotFound, "there is no image for %s, only for %s", image.FormatPlatform(want), image.FormatPlatform(have))
	}
	r.Progress.Warn("%s is for %s, and this destination is %s", ref, image.FormatPlatform(have), image.FormatPlatform(want))
	return nil
}
