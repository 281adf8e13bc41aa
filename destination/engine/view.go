package engine

import (
	"sync"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/progress"
)

// view shows how far a relay is: how much of the image the Engine has registered, in bytes
// of its blobs. So the total is known from the beginning.
type view struct {
	e    *engine
	task *progress.Task

	mu    sync.Mutex
	bytes map[string]int64 // of the layers, by the name that the Engine has for them
	shown map[string]int64 // of these
}

func (r *relay) newView(legs []*leg) *view {
	v := &view{e: r.e, task: r.e.env.Progress.Task("load "+r.img.Ref.String(), 0), bytes: make(map[string]int64), shown: make(map[string]int64)}
	total := int64(0)
	for _, g := range legs {
		for _, l := range g.layers {
			v.bytes[l.DiffID.Encoded()[:12]] += l.Blob.Size
			total += l.Blob.Size
		}
	}
	v.task.Phase(progress.Loading)
	v.task.SetTotal(total)
	return v
}

// watch returns what is told of the load of a leg.
func (v *view) watch(g *leg) daemon.Watch {
	w := v.e.watch(func(int64) {})
	w.Unpacking = func(layer string, done, total int64) {
		if total > 0 {
			v.reached(layer, float64(done)/float64(total))
		}
	}
	return w
}

// reached shows that a part of a layer is registered. What was shown is not taken back.
func (v *view) reached(layer string, part float64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	at := int64(float64(v.bytes[layer]) * min(part, 1))
	if more := at - v.shown[layer]; more > 0 {
		v.shown[layer] = at
		v.task.Add(more)
	}
}

// registered shows that the Engine has the layers of a leg.
func (v *view) registered(g *leg) {
	for _, l := range g.layers {
		v.reached(l.DiffID.Encoded()[:12], 1)
	}
}

// end shows the outcome.
func (v *view) end(err error) {
	if err != nil {
		v.task.Phase(progress.Failed)
		return
	}
	v.task.Phase(progress.Done)
}
