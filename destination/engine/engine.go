package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
)

// Options say which Engine, and how. The zero value works.
type Options struct {
	// Host is the Engine's address, as in DOCKER_HOST; "" is what the environment says.
	Host string
	// TempDir is where layers wait for the Engine. "" is [destination.TempDir].
	TempDir string
}

// engine is an Engine that images are loaded into.
type engine struct {
	run    context.Context // of the whole run: shared work ends with it
	env    *destination.Env
	api    *daemon.Engine
	space  *disk.Space
	spool  destination.Spool[*spooled]
	window *semaphore.Weighted // images at work: one loading, one on its way
	form   form                // for most images, see formOf
	stored map[digest.Digest]*daemon.Stored
	owner  *owner // of parts, nil if there will be none

	mu       sync.Mutex
	chains   map[digest.Digest]bool          // chainIDs that the Engine has
	bringing map[digest.Digest]chan struct{} // closed when the image has ended that brings a chainID
	last     chan struct{}                   // closed when all images so far have ended
}

var _ destination.Destination = (*engine)(nil)

// Open connects to the Engine. The error wraps [daemon.ErrUnavailable] if none answers.
func Open(ctx context.Context, env *destination.Env, o Options) (destination.Destination, error) {
	api, err := daemon.Connect(ctx, daemon.Options{Host: o.Host})
	if err != nil {
		return nil, err
	}
	return Use(ctx, env, api, o)
}

// Use is [Open] for an Engine that has answered. It closes the Engine if it fails.
func Use(ctx context.Context, env *destination.Env, api *daemon.Engine, o Options) (destination.Destination, error) {
	e, err := open(ctx, env, api, cmp.Or(o.TempDir, destination.TempDir()))
	if err != nil {
		return nil, errors.Join(err, api.Close())
	}
	return e, nil
}

func open(ctx context.Context, env *destination.Env, api *daemon.Engine, tempDir string) (*engine, error) {
	if st, err := os.Stat(tempDir); !env.DryRun && (err != nil || !st.IsDir()) {
		return nil, fault.WithHint(fault.New(fault.NotFound, "layers on their way to the Engine are kept in %s, and there is no such directory", tempDir),
			"choose another one with --temp-dir")
	}
	has, err := api.Inventory(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the Engine for its layers: %w", err)
	}
	e := &engine{
		run: ctx, env: env, api: api, chains: has.Chains, stored: has.Stored,
		window: semaphore.NewWeighted(2), bringing: make(map[digest.Digest]chan struct{}),
		space: disk.NewSpace(disk.Options{
			Dir: tempDir, Passing: true,
			Advice: "layers are kept in " + tempDir + " on their way to the Engine: make room there, or choose another directory with --temp-dir",
		}),
	}
	switch {
	case api.TellsManifests():
		staged := &stagedForm{e}
		if e.form = staged; !env.DryRun {
			staged.sweepLeft(ctx)
		}
	case api.Containerd():
		e.form = &plainForm{e}
	default:
		e.form = &graphForm{e}
		if !env.DryRun {
			e.owner = newOwner()
		}
	}
	return e, nil
}

// formOf returns the form in which the Engine gets an image. Docker's import names all
// content by SHA-256, so an image with other digests gets a manifest of its own, and so does
// one whose layers have types that its store does not know.
func (e *engine) formOf(img *destination.Image) form {
	if _, staged := e.form.(*stagedForm); !staged {
		return e.form
	}
	if image.CheckContainerd(img.Image) != nil {
		return &plainForm{e}
	}
	names := []digest.Digest{img.Found, img.Leaf.Digest}
	for _, l := range img.Layers {
		names = append(names, l.Blob.Digest)
	}
	for _, d := range names {
		if d.Algorithm() != digest.SHA256 {
			return &plainForm{e}
		}
	}
	return e.form
}

// Info implements [destination.Destination].
func (e *engine) Info() destination.Info {
	return destination.Info{Name: e.api.String(), Platform: e.api.Platform()}
}

// Check implements [destination.Destination]. An Engine with a graph driver keeps images as
// a store does: what it cannot read there later is not sent to it.
func (e *engine) Check(img *image.Image) error {
	if e.api.Containerd() {
		return nil
	}
	return image.CheckDocker(img)
}

// Lookup implements [destination.Destination]. Only the config tells which layers there
// have to be.
func (e *engine) Lookup(ctx context.Context, q destination.Query) (state destination.State, err error) {
	if q.Image == nil {
		return state, nil
	}
	has, err := e.form.hasImage(ctx, q.Found, q.Image)
	if err != nil {
		return state, err
	}
	if has {
		state.Image = q.Image
		return state, nil
	}
	state.Missing = e.missing(q.Image, false)
	return state, nil
}

// missing returns the layers that the Engine lacks, or all of them, each once. It has to be
// sent all layers above the first that it lacks: what it has are chains.
func (e *engine) missing(img *image.Image, all bool) []image.Layer {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, l := range img.Layers {
		if all || !e.chains[l.ChainID] {
			return e.distinct(img.Layers[i:])
		}
	}
	return nil
}

// has notes that the Engine has an image's layers now.
func (e *engine) has(img *image.Image) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range img.Layers {
		e.chains[l.ChainID] = true
	}
}

// lacks reports whether the Engine does not have a layer so far.
func (e *engine) lacks(l image.Layer) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.chains[l.ChainID]
}

// key names the file of a layer in the spool. A layer in two blobs is one file, unless the
// blobs are sent, too.
func (e *engine) key(l image.Layer) digest.Digest {
	if e.form.sendsBlobs() {
		return l.Blob.Digest
	}
	return l.DiffID
}

// distinct returns the layers with each file of the spool once.
func (e *engine) distinct(layers []image.Layer) []image.Layer {
	seen := make(map[digest.Digest]bool)
	var list []image.Layer
	for _, l := range layers {
		if key := e.key(l); !seen[key] {
			seen[key] = true
			list = append(list, l)
		}
	}
	return list
}

// Finish implements [destination.Destination].
func (e *engine) Finish(context.Context) error { return nil }

// Close implements [destination.Destination].
func (e *engine) Close() error {
	e.spool.Close()
	if e.owner == nil {
		return e.api.Close()
	}
	e.sweepParts()
	return errors.Join(e.owner.Close(), e.api.Close())
}
