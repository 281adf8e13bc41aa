package destination

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/registry"
)

// Destination receives the images of a run. Its methods may be called concurrently.
type Destination interface {
	// Info describes the destination.
	Info() Info
	// Check refuses an image that is beyond the limits of the destination.
	Check(*image.Image) error
	// Lookup reports what the destination has. It changes nothing.
	Lookup(context.Context, Query) (State, error)
	// Begin starts to bring an image. ctx is that of the run, and outlasts the Tx. The
	// caller ends the Tx with Commit or Abort.
	Begin(ctx context.Context, img *Image) (Tx, error)
	// Finish makes visible and durable what waits for the end of the run. It is called
	// once, if at least one image was committed.
	Finish(context.Context) error
	// Close ends everything, and removes what is unfinished.
	Close() error
}

// Info describes a destination.
type Info struct {
	// Name is the destination for people, such as "store /srv/images".
	Name string
	// Platform is searched for in an index if the user names none.
	Platform ocispec.Platform
	// PartialDir is the directory for partial blobs, beside what is made of them. "" uses
	// the one that the run has for all destinations.
	PartialDir string
	// Together is set if the images of a run become one thing in Finish, as those of an
	// archive. Otherwise each of them is visible and complete when it is committed.
	Together bool
}

// Ordered is implemented by destinations that take images in the order in which they were
// named.
type Ordered interface {
	// Ended tells that the nth image has ended, one way or another. Images that the
	// destination never saw count, too.
	Ended(nth int)
}

// Query asks for an image.
type Query struct {
	Ref   registry.Reference
	Found digest.Digest    // of what Ref names: a manifest or an index
	Want  ocispec.Platform // that the image is to run on
	Image *image.Image     // nil while only Found is known
}

// State describes how much of an image a destination has.
type State struct {
	// Image is set if the destination has all of it. The layers of an image that was found
	// by its digest alone need not tell their blobs.
	Image *image.Image
	// Missing are the layers that would have to be brought, each diffID once. It is set if
	// the query had an image, and the destination has not all of it.
	Missing []image.Layer
}

// Image is an image that goes to a destination.
type Image struct {
	*image.Image
	Ref   registry.Reference
	Found digest.Digest // of what Ref names: a manifest or an index
	Nth   int           // of the run's references, from 0

	// Top is what Ref names, and Leaf the image itself. Tree is all that Top leads to; it
	// is nil where no more than one image is wanted.
	Top  *image.Document
	Leaf *image.Leaf
	// Nested are the indexes in Top that lead to Leaf.
	Nested []*image.Document
	Tree   *image.Tree
	// Content returns the content of a layer, of this image or of another one in the tree.
	// It is nil for an image that the destination has, which only gets the names of Ref.
	Content func(image.Layer) *Content
}

// Tx brings one image. Layer is called concurrently. Nothing is visible before Commit.
type Tx interface {
	// Layers returns the layers that have to be brought, each once.
	Layers() []Layer
	// Space returns the space that the layers need, nil if they need none.
	Space() *disk.Space
	// Layer brings a layer.
	Layer(context.Context, image.Layer, *Content) error
	// Commit makes the image visible, by the names of its reference. The error is
	// [ErrGone] if the destination had all layers, and lost one meanwhile.
	Commit(context.Context) error
	// Abort ends the Tx otherwise. It is called with no Layer under way.
	Abort() error
}

// Layer is a layer that a destination lacks.
type Layer struct {
	image.Layer
	Left int64 // bytes of it that are still to be written
}

// Whole returns layers of which the destination has no bytes.
func Whole(layers []image.Layer) (list []Layer) {
	for _, l := range layers {
		list = append(list, Layer{l, l.Blob.Size})
	}
	return list
}

// Needs returns what the layers need of a [disk.Space].
func Needs(layers []Layer) []disk.Need {
	needs := make([]disk.Need, len(layers))
	for i, l := range layers {
		needs[i] = disk.Need{Digest: l.Blob.Digest, Left: l.Left}
	}
	return needs
}

// Distinct returns layers with each diffID once.
func Distinct(layers []image.Layer) []image.Layer {
	seen := make(map[digest.Digest]bool)
	var list []image.Layer
	for _, l := range layers {
		if !seen[l.DiffID] {
			seen[l.DiffID] = true
			list = append(list, l)
		}
	}
	return list
}

// Nothing returns the state of a destination without images.
func Nothing(q Query) (s State) {
	if q.Image != nil {
		s.Missing = Distinct(q.Image.Layers)
	}
	return s
}

// ErrGone is the error of a Commit without layers whose image was removed meanwhile. The
// caller begins anew, with all of the image.
var ErrGone = errors.New("the image was removed meanwhile")

// ExplainWrite adds a kind and a hint to the error of a file or directory that cannot be made.
func ExplainWrite(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fault.WithHint(fault.Wrap(fault.Denied, err), "run fastpull as root, or choose another place")
	case errors.Is(err, fs.ErrNotExist):
		return fault.WithHint(fault.Wrap(fault.NotFound, err), "the directory that it goes into has to be there")
	case errors.Is(err, unix.ENOTDIR):
		return fault.WithHint(fault.Wrap(fault.Usage, err), "name a directory, or one that can be made in a directory")
	}
	return err
}

// TempDir returns the directory for temporary files that the user did not choose.
func TempDir() string { return cmp.Or(os.Getenv("TMPDIR"), "/var/tmp") }
