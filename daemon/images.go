package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/fault"
)

// inspections is how many images are inspected at once. More would not be
// faster: the Engine takes a lock for each.
const inspections = 4

// HasImage reports whether the Engine has the image of this ID, the digest of
// its config. It is always false for an Engine with containerd's store, whose
// IDs are digests of manifests and indexes: see [Engine.Stored].
func (e *Engine) HasImage(ctx context.Context, id digest.Digest) (bool, error) {
	if err := id.Validate(); err != nil {
		return false, fault.New(fault.Usage, "image ID %q: %w", id, err)
	}
	got, err := e.TagOf(ctx, id.String())
	return err == nil && got == id, err
}

// TagOf returns the ID of the image that bears the name, which must be whole:
// "host:5000/img:tag". It returns "" when there is none.
func (e *Engine) TagOf(ctx context.Context, name string) (digest.Digest, error) {
	img, err := e.inspect(ctx, name)
	if img == nil {
		return "", err
	}
	return digest.Digest(img.ID), nil
}

// Tag gives the image a name such as "host:5000/img:tag", and takes it from
// the image that has it. The error is of kind fault.NotFound when the Engine
// has no such image.
func (e *Engine) Tag(ctx context.Context, id digest.Digest, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := e.cli.ImageTag(ctx, client.ImageTagOptions{Source: id.String(), Target: name})
	return e.explain(err, "tag image %s as %s", id, name)
}

// Verify checks that the Engine has a usable image of this ID, the digest of its config.
// An Engine with a graph driver does not answer an inspection unless the files of the
// topmost layer, and with it those below, are where its driver keeps them. For an Engine
// with containerd's store see [Engine.Stored].
func (e *Engine) Verify(ctx context.Context, id digest.Digest, diffIDs []digest.Digest) error {
	got, err := e.inspect(ctx, id.String())
	if err != nil {
		return err
	}
	switch {
	case got == nil:
		err = ErrAbsent
	case got.ID != id.String():
		err = fmt.Errorf("the Engine has %s under its ID", got.ID)
	case !slices.Equal(layersOf(got), diffIDs):
		err = fmt.Errorf("the Engine has other layers: %v", got.RootFS.Layers)
	case len(diffIDs) > 0 && e.info.Driver == "overlay2" && (got.GraphDriver == nil || got.GraphDriver.Data["UpperDir"] == ""):
		err = errors.New("the Engine does not say where the files of its layers are")
	}
	return e.explain(err, "verify image %s", id)
}

// ErrAbsent is the error of an image that an Engine has loaded, without an error, and does
// not have.
var ErrAbsent = errors.New("the Engine reported success, and does not have it")

// VerifyName checks that a name such as "host:5000/img:tag" is the image's.
func (e *Engine) VerifyName(ctx context.Context, id digest.Digest, name string) error {
	has, err := e.TagOf(ctx, name)
	if err == nil && has != id {
		err = e.explain(fmt.Errorf("it is the name of %s", cmp.Or(has.String(), "no image")), "verify the name %s of image %s", name, id)
	}
	return err
}

// Remove removes the image of this ID, which is no error if there is none. An image that
// a container uses, or that has several names, stays, and that is an error. Remove works
// also after the end of ctx, for some seconds.
func (e *Engine) Remove(ctx context.Context, id digest.Digest) error {
	return e.RemoveName(ctx, id.String())
}

// cleanupGrace is how long something is cleaned up after the end of its context.
const cleanupGrace = 5 * time.Second

// cleanup returns a context for what has to go, even if ctx ends now.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(cleanupGrace, cancel) })
	return limited, func() {
		stop()
		cancel()
	}
}

// Inventory is what an Engine has.
type Inventory struct {
	// Chains are the chain IDs of all layers that some image has, dangling and
	// intermediate images included: those that an archive for [Engine.Load] may leave
	// out. Of an Engine with containerd's store these are the layers of images whose blobs
	// are all there, and which are unpacked. The map is empty if it cannot tell.
	Chains map[digest.Digest]bool
	// Stored are the images by their IDs, if [Engine.TellsManifests] holds.
	Stored map[digest.Digest]*Stored
}

// Inventory asks the Engine for all its images. An image that is removed meanwhile is no
// error.
func (e *Engine) Inventory(ctx context.Context) (Inventory, error) {
	all := Inventory{make(map[digest.Digest]bool), make(map[digest.Digest]*Stored)}
	if e.Containerd() && !e.TellsManifests() {
		return all, nil
	}
	var mu sync.Mutex
	err := e.each(ctx, func(img *image.InspectResponse) {
		mu.Lock()
		defer mu.Unlock()
		if e.Containerd() {
			s := storedOf(img)
			all.Stored[digest.Digest(img.ID)] = s
			if !slices.ContainsFunc(s.Variants, Variant.Usable) {
				return
			}
		}
		for _, c := range identity.ChainIDs(layersOf(img)) {
			all.Chains[c] = true
		}
	})
	return all, err
}

// each inspects every image of the Engine, several at a time. Images that the Engine cannot
// inspect are left out: a damaged image is no reason not to take others.
func (e *Engine) each(ctx context.Context, use func(*image.InspectResponse)) error {
	ids, err := e.list(ctx, nil)
	if err != nil {
		return err
	}
	return e.inspectAll(ctx, ids, use)
}

func (e *Engine) inspectAll(ctx context.Context, ids map[string]bool, use func(*image.InspectResponse)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inspections)
	for id := range ids {
		g.Go(func() error {
			img, err := e.inspect(ctx, id)
			if cerrdefs.IsInternal(err) {
				return nil
			}
			if img != nil {
				use(img)
			}
			return err
		})
	}
	return g.Wait()
}

// list returns the IDs of the images that fit the filters, of all images without any.
func (e *Engine) list(ctx context.Context, filters client.Filters) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := e.cli.ImageList(ctx, client.ImageListOptions{All: true, Filters: filters})
	if err != nil {
		return nil, e.explain(err, "list the images")
	}
	ids := make(map[string]bool, len(list.Items))
	for _, img := range list.Items {
		ids[img.ID] = true
	}
	return ids, nil
}

// inspect returns what the Engine says of an image, nil when it has no such image. An
// Engine that can tell of manifests does.
func (e *Engine) inspect(ctx context.Context, name string) (*image.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := e.cli.ImageInspect(ctx, name, client.ImageInspectWithManifests(e.TellsManifests()))
	if cerrdefs.IsNotFound(err) {
		return nil, nil
	}
	if err == nil {
		if _, perr := digest.Parse(got.ID); perr != nil {
			err = fmt.Errorf("its ID is %q: %w", got.ID, perr)
		}
	}
	if err != nil {
		return nil, e.explain(err, "inspect image %s", name)
	}
	return &got.InspectResponse, nil
}

// layersOf returns the diffIDs of an image's layers.
func layersOf(img *image.InspectResponse) []digest.Digest {
	diffIDs := make([]digest.Digest, len(img.RootFS.Layers))
	for i, l := range img.RootFS.Layers {
		diffIDs[i] = digest.Digest(l)
	}
	return diffIDs
}
