package daemon

import (
	"context"
	"fmt"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
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
// IDs are others.
func (e *Engine) HasImage(ctx context.Context, id digest.Digest) (bool, error) {
	if err := id.Validate(); err != nil {
		return false, fault.New(fault.Usage, "image ID %q: %w", id, err)
	}
	got, _, err := e.inspect(ctx, id.String())
	return err == nil && got == id, err
}

// TagOf returns the ID of the image that bears the name, which must be whole:
// "host:5000/img:tag". It returns "" when there is none.
func (e *Engine) TagOf(ctx context.Context, name string) (digest.Digest, error) {
	id, _, err := e.inspect(ctx, name)
	return id, err
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

// Chains returns the chain IDs of all layers that some image of the Engine
// has, dangling and intermediate images included: those that an archive for
// [Engine.Load] may leave out. The map is empty for an Engine with
// containerd's store, where it may leave out none. An image that is removed
// meanwhile is no error.
func (e *Engine) Chains(ctx context.Context) (map[digest.Digest]bool, error) {
	chains := make(map[digest.Digest]bool)
	if e.Containerd() {
		return chains, nil
	}
	ids, err := e.list(ctx)
	if err != nil {
		return nil, err
	}

	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inspections)
	for id := range ids {
		g.Go(func() error {
			_, diffIDs, err := e.inspect(ctx, id)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, c := range identity.ChainIDs(diffIDs) {
				chains[c] = true
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return chains, nil
}

func (e *Engine) list(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := e.cli.ImageList(ctx, client.ImageListOptions{All: true})
	if err != nil {
		return nil, e.explain(err, "list the images")
	}
	ids := make(map[string]bool, len(list.Items))
	for _, img := range list.Items {
		ids[img.ID] = true
	}
	return ids, nil
}

// inspect returns an image's ID and its layers' diffIDs, and neither when the
// Engine has no such image.
func (e *Engine) inspect(ctx context.Context, name string) (digest.Digest, []digest.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	img, err := e.cli.ImageInspect(ctx, name)
	if cerrdefs.IsNotFound(err) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, e.explain(err, "inspect image %s", name)
	}
	id, err := digest.Parse(img.ID)
	if err != nil {
		return "", nil, e.explain(fmt.Errorf("its ID is %q: %w", img.ID, err), "inspect image %s", name)
	}
	diffIDs := make([]digest.Digest, len(img.RootFS.Layers))
	for i, l := range img.RootFS.Layers {
		diffIDs[i] = digest.Digest(l)
	}
	return id, diffIDs, nil
}
