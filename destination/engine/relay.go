package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
)

// relay loads an image into an Engine with a graph driver, in several archives.
//
// Such an Engine first writes an archive to its disk, and registers the layers when it has all
// of it. So each archive has only a few layers, and the next archive is sent while the Engine
// registers the layers of the one before. The last bytes of an archive say what it is. They
// are held back until the Engine has the layers below. Each archive but the last is a [part],
// which is removed when the next one is there. The last archive is the image, without the
// layers that the Engine has.
//
// The lowest layer goes without an archive, if the Engine lacks it: the Engine imports a plain
// tar, and unpacks it while it arrives.
type relay struct {
	e          *engine
	img        *destination.Image
	deliveries map[digest.Digest]*delivery // of the layers that the Engine lacked at first, by diffID
	often      map[digest.Digest]int       // how often the image has a diffID
	view       *view
	over       chan struct{} // closed when nothing is going to be sent any more
}

func newRelay(e *engine, img *destination.Image, missing []image.Layer, v *view) *relay {
	r := &relay{e: e, img: img, view: v, deliveries: make(map[digest.Digest]*delivery), often: make(map[digest.Digest]int), over: make(chan struct{})}
	for _, l := range missing {
		r.deliveries[l.DiffID] = newDelivery(l)
	}
	for _, l := range img.Layers {
		r.often[l.DiffID]++
	}
	return r
}

// finish lets go of the layers that wait for their turn.
func (r *relay) finish() {
	close(r.over)
	for _, d := range r.deliveries {
		d.come()
	}
}

// Close removes the files of the relay, when no layer is on its way any more.
func (r *relay) Close() (err error) {
	for _, d := range r.deliveries {
		err = errors.Join(err, d.Close())
	}
	return err
}

// layer brings a layer to where load finds it. before is closed when an image that brings
// the same layer has ended.
func (r *relay) layer(ctx context.Context, l image.Layer, c *destination.Content, before <-chan struct{}) error {
	d := r.deliveries[l.DiffID]
	defer d.settle()
	d.content = c
	for _, wait := range []<-chan struct{}{before, r.waitFor(d)} {
		if wait == nil {
			continue
		}
		select {
		case <-wait:
		case <-r.over:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if closed(r.over) || !r.e.lacks(l) {
		return nil
	}
	var size *plainSize
	if r.often[l.DiffID] == 1 {
		size = r.e.plainSize(ctx, r.img.Ref, l)
	}
	if size != nil {
		stream := d.stream
		if r.imports(l) {
			stream = d.pour
		}
		err := stream(ctx, r.e, r.how(l), size, r.over)
		switch {
		case errors.Is(err, errLeft):
			if ctx.Err() == nil {
				c.Task().Restart() // load may fetch it again
			}
			return nil // load tells why
		case !errors.Is(err, errAgain):
			c.End(ctx, err)
			return err
		}
		c.Task().Restart()
	}
	p, err := r.e.get(ctx, l, c, r.how(l))
	d.file = p
	return err
}

// imports reports whether a layer goes to the Engine without an archive. The Engine takes
// about a tenth of a second for an image of one small layer, so that one goes in an archive.
func (r *relay) imports(l image.Layer) bool {
	return l.DiffID == r.img.Layers[0].DiffID && r.often[l.DiffID] == 1 && l.Blob.Size >= legFrom && r.deliveries[l.DiffID] != nil
}

// waitFor returns what a layer waits for before it is fetched: its turn, if that comes from
// this machine and can be streamed. Nil is for a layer that is fetched ahead.
func (r *relay) waitFor(d *delivery) <-chan struct{} {
	if r.e.env.Source.Near() && r.often[d.layer.DiffID] == 1 {
		return d.turn
	}
	return nil
}

// how says how a layer is fetched: the lowest ones first, since the Engine takes no other
// order, and those of an earlier image before those of a later one.
func (r *relay) how(l image.Layer) destination.How {
	at := r.img.Nth * image.MaxLayers
	for i := range r.img.Layers {
		if r.img.Layers[i].DiffID == l.DiffID {
			at += i
			break
		}
	}
	return destination.How{Space: r.e.space, Weight: math.MaxInt64 - int64(at)}
}

// get fetches a layer into a file.
func (r *relay) get(ctx context.Context, l image.Layer) (*spooled, error) {
	return r.e.get(ctx, l, r.deliveries[l.DiffID].content, r.how(l))
}

// leg is one archive of a relay.
type leg struct {
	img    *image.Image // a part, or the image in the end
	tags   []string
	part   string        // the name of the part, "" if it is the image
	layers []image.Layer // that go along
	first  int           // the position of the first of them in the image
	whole  bool          // its only layer is imported

	written <-chan struct{} // closed when the next archive may be sent
	wrote   func()          // closes written
	done    chan struct{}   // closed when the Engine has it, or err is set
	err     error
}

// legFrom is the size, in bytes of blobs, that a leg reaches before the next one begins. The
// Engine takes about a tenth of a second for an archive, whatever is in it.
const legFrom = 4 << 20

// legs divides what the Engine lacks of the image.
func (r *relay) legs() ([]*leg, error) {
	layers := r.img.Layers
	first := 0
	for first < len(layers) && !r.e.lacks(layers[first]) {
		first++
	}
	var list []*leg
	if len(layers) > 0 && first == 0 && r.imports(layers[0]) {
		list = append(list, &leg{layers: layers[:1], whole: true})
		first = 1
	}
	size := int64(0)
	left := int64(0)
	for _, l := range layers[first:] {
		left += l.Blob.Size
	}
	from := first
	for i := first; i < len(layers); i++ {
		size += layers[i].Blob.Size
		left -= layers[i].Blob.Size
		if size >= legFrom && left >= legFrom {
			list = append(list, &leg{layers: layers[from : i+1], first: from})
			from, size = i+1, 0
		}
	}
	list = append(list, &leg{layers: layers[from:], first: from})
	made := time.Now()
	for i, g := range list {
		written := make(chan struct{})
		g.written, g.done = written, make(chan struct{})
		g.wrote = sync.OnceFunc(func() { close(written) })
		if i == len(list)-1 {
			g.img, g.tags = r.img.Image, r.img.Ref.FamiliarTags()
			break
		}
		var err error
		if g.img, err = part(r.e.owner.mark, made, r.e.api.Platform(), diffIDs(r.img.Image)[:g.first+len(g.layers)]); err != nil {
			return nil, err
		}
		g.part = nameOfPart(g.img.ID)
		g.tags = []string{g.part}
	}
	return list, nil
}

// load sends the image. The Engine has it then, and none of its parts.
func (r *relay) load(ctx context.Context) error {
	defer r.finish()
	legs, err := r.legs()
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	var before *leg
	for _, next := range legs {
		if before != nil {
			select {
			case <-before.written:
			case <-gctx.Done():
			}
		}
		if gctx.Err() != nil {
			break
		}
		previous := before
		g.Go(func() error {
			next.err = r.send(gctx, next, previous)
			close(next.done)
			if next.err == nil {
				r.view.has(next.layers...)
			}
			if next.err == nil && previous != nil {
				r.e.removePart(ctx, previous.part)
			}
			return next.err
		})
		before = next
	}
	err = g.Wait()
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = (&graphForm{r.e}).prove(ctx, &sending{e: r.e, img: r.img})
	}
	if err != nil {
		for _, l := range legs[:len(legs)-1] {
			r.e.removePart(ctx, l.part)
		}
		err = fmt.Errorf("load into the Engine: %w", err)
	}
	r.view.end(err)
	return err
}

// send sends one leg. A layer that cannot be imported goes in an archive.
func (r *relay) send(ctx context.Context, g, before *leg) error {
	if !g.whole {
		return r.sendArchive(ctx, g, before)
	}
	err := r.importLayer(ctx, g)
	if (errors.Is(err, errAgain) || daemon.Refused(err)) && ctx.Err() == nil {
		r.e.env.Progress.Note("the Engine did not import the lowest layer, sending it in an archive (%v)", err)
		err = r.sendArchive(ctx, g, before)
	}
	return err
}

// importLayer gives the Engine the leg's layer without an archive. The next archive is sent
// meanwhile: the Engine only writes that to its disk.
func (r *relay) importLayer(ctx context.Context, g *leg) error {
	l := g.layers[0]
	tar, err := r.deliveries[l.DiffID].open(ctx, func(ctx context.Context) (*spooled, error) { return r.get(ctx, l) })
	if err != nil {
		return err
	}
	g.wrote()
	in := imported(r.e.owner.mark)
	loading, end := destination.Outlive(ctx, tar.ended.Load, registerGrace)
	defer end()
	tar.r = r.view.sending(l, tar.r, tar.size, 1)
	if err = r.e.api.Import(loading, tar, in, r.view.watch(0)); err != nil {
		r.e.removePart(ctx, in.Name)
		return err
	}
	g.part = in.Name
	return nil
}

// sendArchive sends one archive, and once more if a layer in it was not what it seemed. The
// end of the archive waits for the leg before.
func (r *relay) sendArchive(ctx context.Context, g, before *leg) error {
	write := func(ctx context.Context, out *outgoing) error {
		for _, l := range g.layers {
			if out.Has(l.DiffID) {
				continue
			}
			if err := r.deliveries[l.DiffID].write(ctx, out, func(ctx context.Context) (*spooled, error) { return r.get(ctx, l) }); err != nil {
				return err
			}
		}
		s := &sending{archive: out.Writer}
		if err := errors.Join(s.document(g.img.Config), out.flush()); err != nil {
			return err
		}
		if before != nil {
			select {
			case <-before.done:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if before.err != nil {
				return before.err
			}
		}
		out.Docker(g.img, g.tags, diffIDs(g.img))
		g.wrote()
		return nil
	}
	grace := time.Duration(0)
	if g.part != "" {
		grace = registerGrace
	}
	err := r.e.post(ctx, r.view.watch(0), grace, write)
	if errors.Is(err, errAgain) && ctx.Err() == nil {
		r.e.env.Progress.Note("%v, sending it again", err)
		err = r.e.post(ctx, r.view.watch(0), grace, write)
	}
	return err
}
