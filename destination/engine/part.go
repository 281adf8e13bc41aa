package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/image"
)

// A part is an image of the lowest layers of another one, which it keeps in an Engine
// until more is there. It is marked by a label, and has a name, so that nothing takes it
// for a dangling image.
//
// A part is removed by its name alone. The name contains the ID, or a random text if the
// Engine made the part. So nothing is removed that has other content, nor a part that was
// given another name meanwhile.
const (
	// labelPart has the mark of the owner of a part.
	labelPart = "org.fastpull.part"

	// partName is the repository of parts. There is no such host (RFC 6761).
	partName = "fastpull.invalid/part"
)

// part makes the image, for the Engine's platform p. Nothing else goes into its config: see [isPart].
func part(mark string, made time.Time, p ocispec.Platform, diffIDs []digest.Digest) (*image.Image, error) {
	c := ocispec.Image{
		Created:  new(made.UTC().Truncate(time.Second)),
		Platform: ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant},
		Config:   ocispec.ImageConfig{Labels: map[string]string{labelPart: mark}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffIDs},
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return image.Parse(config)
}

// imported describes a part of the lowest layer alone, which the Engine makes of that layer:
// see [daemon.Engine.Import]. Its ID is the Engine's choice, so its name is a random one.
func imported(mark string) daemon.Imported {
	return daemon.Imported{
		Name: partName + ":" + importTag + rand.Text(), Comment: commentOfPart(mark),
		Label: labelPart, Value: mark,
	}
}

// importTag begins the tag of an imported part.
const importTag = "import-"

// commentOfPart is the comment of an imported part. Nothing that is built on the part inherits it.
func commentOfPart(mark string) string { return "a layer on its way, by fastpull " + mark }

// isPart reports whether an image is one that [part] has made: to the last byte, since its
// ID is a digest. An image that was built on a part has the label, too, and is none.
func isPart(l daemon.Labelled) bool {
	img, err := part(l.Label, l.Created, l.Platform, l.DiffIDs)
	return err == nil && img.ID == l.ID
}

// isImported reports whether an image is a part that the Engine made. An image that was built on
// such a part has another comment.
func isImported(l daemon.Labelled) bool {
	return len(l.DiffIDs) == 1 && l.Comment == commentOfPart(l.Label)
}

func nameOfPart(id digest.Digest) string { return partName + ":" + id.Encoded() }

// sweepParts removes the parts that this process and those that were killed have left. It
// works also after the end of the run, for some seconds.
func (e *engine) sweepParts() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.run), sweepTimeout)
	defer cancel()
	list, err := e.api.Labelled(ctx, labelPart)
	if err != nil {
		e.env.Progress.Warn("images that were there for a load alone may have stayed in the Engine: %v", err)
		return
	}
	for _, l := range list {
		name := ""
		switch {
		case isPart(l):
			name = nameOfPart(l.ID)
		case isImported(l):
			name = importedName(l)
		}
		if name == "" || l.Label != e.owner.mark && !abandoned(l.Label, l.Created) {
			continue
		}
		// The Engine was killed before it could name the part.
		if len(l.Names) == 0 {
			if err := e.api.Tag(ctx, l.ID, name); err != nil {
				continue // removed by another process
			}
		} else if !slices.Contains(l.Names, name) {
			continue // it is what the user has named it
		}
		e.removePart(ctx, name)
	}
}

// importedName returns the name by which an imported part is removed: the one that it has, or
// one that it gets if the Engine was killed before it could name the part.
func importedName(l daemon.Labelled) string {
	for _, name := range l.Names {
		if strings.HasPrefix(name, partName+":"+importTag) {
			return name
		}
	}
	return partName + ":" + importTag + l.ID.Encoded()
}

// sweepTimeout bounds the search for parts at the end of a run.
const sweepTimeout = 30 * time.Second

func (e *engine) removePart(ctx context.Context, name string) {
	if err := e.api.RemoveName(ctx, name); err != nil {
		e.env.Progress.Warn("image %s was there for a load alone, and stays in the Engine: %v", name, err)
	}
}
