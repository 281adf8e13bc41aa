package daemon

import (
	"context"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Labelled is an image that has a label.
type Labelled struct {
	ID       digest.Digest
	Names    []string // its tags
	Label    string   // the value of the label
	Comment  string
	Created  time.Time
	Platform ocispec.Platform
	DiffIDs  []digest.Digest
}

// Labelled returns the images whose config has the label, with and without names.
func (e *Engine) Labelled(ctx context.Context, label string) (list []Labelled, err error) {
	ids, err := e.list(ctx, client.Filters{}.Add("label", label))
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	err = e.inspectAll(ctx, ids, func(img *image.InspectResponse) {
		if img.Config == nil || img.Config.Labels[label] == "" {
			return
		}
		l := Labelled{
			ID: digest.Digest(img.ID), Names: img.RepoTags, Label: img.Config.Labels[label], Comment: img.Comment, DiffIDs: layersOf(img),
			Platform: ocispec.Platform{OS: img.Os, Architecture: img.Architecture, Variant: img.Variant},
		}
		l.Created, _ = time.Parse(time.RFC3339Nano, img.Created)
		mu.Lock()
		defer mu.Unlock()
		list = append(list, l)
	})
	return list, err
}

// RemoveName takes a name from its image, and removes the image if it has no other name.
// That there is no such name is no error. An image that a container uses keeps its last
// name, and that is an error. RemoveName works also after the end of ctx, for some seconds.
func (e *Engine) RemoveName(ctx context.Context, name string) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	_, err := e.cli.ImageRemove(ctx, name, client.ImageRemoveOptions{})
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	return e.explain(err, "remove image %s", name)
}
