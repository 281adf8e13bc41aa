package sample

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/fault"
)

// Options says how to build an image.
type Options struct {
	// Dir is a folder for the files of layers, Dir/sha256/HEX. They must stay until the image
	// was pushed. If Dir is the folder of a registry.NewDiskBlobHandler of go-containerregistry,
	// that registry has the layers already, and a push does not send them.
	Dir string
	// Base is the image that the layers go on top of. Nil is none.
	Base v1.Image
	// Jobs is how many layers are made at a time. 0 is as many as there are
	// cores.
	Jobs int
}

// Stats is how big an image is.
type Stats struct {
	Layers     int   `json:"layers"`
	Entries    int   `json:"entries"`         // of the layers' tars
	Plain      int64 `json:"plainBytes"`      // the layers as plain tars
	Compressed int64 `json:"compressedBytes"` // the layers as they are transferred
}

// Build makes an image of layers, the lowest first, for this machine's
// platform. It takes a core a job, about 40 MB a second each, and ends soon
// after ctx does, leaving no file of a layer that is not whole.
//
// A tree that is not there is an error of kind [fault.NotFound].
func Build(ctx context.Context, o Options, layers ...Layer) (v1.Image, error) {
	if err := os.MkdirAll(filepath.Join(o.Dir, "sha256"), 0o755); err != nil {
		return nil, fmt.Errorf("build a sample image: %w", err)
	}
	made := make([]*blob, len(layers))
	g, gctx := errgroup.WithContext(ctx)
	jobs := o.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	g.SetLimit(jobs)
	for i, l := range layers {
		g.Go(func() (err error) {
			made[i], err = writeLayer(gctx, filepath.Join(o.Dir, "sha256"), l)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("build a sample image: %w", err)
	}
	img, err := assemble(o.Base, layers, made)
	if err != nil {
		return nil, fmt.Errorf("build a sample image: %w", err)
	}
	return img, nil
}

const (
	entriesLabel = "fastpull.sample.entries"
	plainLabel   = "fastpull.sample.bytes"
)

// assemble puts the layers that were made onto base.
func assemble(base v1.Image, layers []Layer, made []*blob) (v1.Image, error) {
	if base == nil {
		base = empty.Image
	}
	stats, err := StatsOf(base)
	if err != nil {
		return nil, err
	}
	var adds []mutate.Addendum
	for i, b := range made {
		adds = append(adds, mutate.Addendum{Layer: b, History: v1.History{CreatedBy: layers[i].String()}})
		stats.Entries += b.entries
		stats.Plain += b.plain
	}
	img, err := mutate.Append(base, adds...)
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	labels := maps.Clone(config.Config.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[entriesLabel] = strconv.Itoa(stats.Entries)
	labels[plainLabel] = strconv.FormatInt(stats.Plain, 10)
	config.Config.Labels = labels
	return mutate.ConfigFile(img, config)
}

// StatsOf tells how big an image of this package is. Of another image Entries
// and Plain are 0.
func StatsOf(img v1.Image) (Stats, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return Stats{}, fmt.Errorf("read the manifest: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return Stats{}, fmt.Errorf("read the config: %w", err)
	}
	s := Stats{Layers: len(manifest.Layers)}
	for _, l := range manifest.Layers {
		s.Compressed += l.Size
	}
	labels := config.Config.Labels
	if labels[entriesLabel] == "" {
		return s, nil
	}
	entries, err1 := strconv.Atoi(labels[entriesLabel])
	plain, err2 := strconv.ParseInt(labels[plainLabel], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return Stats{}, fault.New(fault.Corrupt, "read the labels of the image: %w", err)
	}
	s.Entries, s.Plain = entries, plain
	return s, nil
}

// Push sends an image to a registry under a name such as
// "127.0.0.1:5000/sample:tag"; one on the loopback is spoken to by plain HTTP.
// Layers that the repository has are not sent. It ends with ctx.
func Push(ctx context.Context, ref string, img v1.Image) error {
	r, err := name.ParseReference(ref)
	if err != nil {
		return fault.New(fault.Usage, "push %s: %w", ref, err)
	}
	if err := remote.Write(r, img, remote.WithContext(ctx)); err != nil {
		return fmt.Errorf("push %s: %w", ref, err)
	}
	return nil
}

// Open looks up an image that was pushed. Its layers stay at the registry until they are read.
// If the image is not there, the error is of kind [fault.NotFound].
func Open(ctx context.Context, ref string) (v1.Image, error) {
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, fault.New(fault.Usage, "open %s: %w", ref, err)
	}
	img, err := remote.Image(r, remote.WithContext(ctx))
	if te, ok := errors.AsType[*transport.Error](err); ok && te.StatusCode == http.StatusNotFound {
		return nil, fault.New(fault.NotFound, "open %s: %w", ref, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", ref, err)
	}
	return img, nil
}
