package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
)

// view shows how far the load of an image is: how much of the image the Engine has, in bytes
// of its blobs. So the total is known from the beginning, and is the same whatever is sent.
type view struct {
	e    *engine
	task *progress.Task

	mu    sync.Mutex
	at    map[string]string // where in the image a layer is, by the name that the Engine has for it
	bytes map[string]int64  // of the layers, by the same name
	shown map[string]int64  // of these
}

// newView shows the load of an image, of which these layers are sent.
func (e *engine) newView(img *destination.Image, sent []image.Layer) *view {
	v := &view{e: e, task: e.env.Progress.Task("load "+img.Ref.String(), 0), at: make(map[string]string), bytes: make(map[string]int64), shown: make(map[string]int64)}
	total := int64(0)
	for _, l := range sent {
		v.bytes[shortID(l)] += l.Blob.Size
		total += l.Blob.Size
	}
	for i, l := range img.Layers {
		v.at[shortID(l)] = fmt.Sprintf("layer %d of %d", i+1, len(img.Layers))
	}
	v.task.Phase(progress.Loading)
	v.task.SetTotal(total)
	return v
}

// shortID is the name by which an Engine tells of a layer.
func shortID(l image.Layer) string { return l.DiffID.Encoded()[:12] }

// watch returns what the Engine tells of a load. Before it unpacks a layer, a part of the
// layer was shown already.
func (v *view) watch(before float64) daemon.Watch {
	return daemon.Watch{
		Sent: func(n int64) { v.e.env.Sent.Add(n) },
		Stalled: func(d time.Duration) {
			v.e.env.Progress.Warn("the Engine has neither taken a byte nor said anything for %s", progress.Duration(d))
		},
		Unpacking: func(layer string, done, total int64) {
			if total > 0 {
				v.reached(layer, before+(1-before)*min(float64(done)/float64(total), 1))
			}
		},
	}
}

// sending returns r, and shows the part of a layer that reading it to its end stands for.
func (v *view) sending(l image.Layer, r io.Reader, size int64, part float64) io.Reader {
	return &sent{v: v, layer: shortID(l), r: r, size: size, part: part}
}

// sent is a layer that is being sent.
type sent struct {
	v       *view
	layer   string
	r       io.Reader
	n, size int64
	part    float64
}

func (s *sent) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.n += int64(n); n > 0 && s.size > 0 {
		s.v.reached(s.layer, s.part*float64(s.n)/float64(s.size))
	}
	return n, err
}

// reached shows that the Engine has a part of a layer. What was shown is not taken back.
func (v *view) reached(layer string, part float64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := int64(float64(v.bytes[layer]) * part)
	if more := at - v.shown[layer]; more > 0 {
		v.shown[layer] = at
		v.task.Doing(v.at[layer])
		v.task.Add(more)
	}
}

// has shows that the Engine has layers.
func (v *view) has(layers ...image.Layer) {
	for _, l := range layers {
		v.reached(shortID(l), 1)
	}
}

// end shows the outcome.
func (v *view) end(err error) {
	switch {
	case err == nil:
		v.task.Phase(progress.Done)
	case errors.Is(err, context.Canceled):
		v.task.Phase(progress.Interrupted)
	default:
		v.task.Phase(progress.Failed)
	}
}
