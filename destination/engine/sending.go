package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
)

// arrival is a layer that was fetched.
type arrival struct {
	layer image.Layer
	p     *spooled
}

// sending is one load of one image.
type sending struct {
	e       *engine
	img     *destination.Image
	form    form
	ready   <-chan arrival
	layers  int                     // how many will be ready
	all     bool                    // send also those that the Engine seems to have
	sent    int                     // how many were sent
	plain   atomic.Int64            // bytes of the layers that were sent
	sizes   map[digest.Digest]int64 // of these layers, by diffID
	archive *bundle.Writer
	stage   digest.Digest // of a stagedForm, once it is sent
}

// load sends the image and makes sure that the Engine has it.
func (s *sending) load(ctx context.Context) error {
	task := s.e.env.Progress.Task("load "+s.img.Ref.String(), 0)
	task.Phase(progress.Sending)
	defer s.form.sweep(ctx, s)
	err := s.stream(ctx, task)
	if err == nil {
		err = s.form.prove(ctx, s)
	}
	if err != nil {
		task.Phase(progress.Failed)
		return fmt.Errorf("load into the Engine: %w", err)
	}
	task.Phase(progress.Done)
	return nil
}

// stream sends an archive to the Engine. Layers go into it as they arrive.
func (s *sending) stream(ctx context.Context, task *progress.Task) error {
	w := s.e.watch(func(n int64) { task.Add(n) })
	w.Unpacking = loading(task, &s.plain)
	return s.e.post(ctx, w, 0, func(ctx context.Context, out *outgoing) error {
		s.archive, s.sizes = out.Writer, make(map[digest.Digest]int64)
		return s.write(ctx, task)
	})
}

// watch returns what is told of every load.
func (e *engine) watch(sent func(n int64)) daemon.Watch {
	return daemon.Watch{
		Sent: func(n int64) {
			e.env.Sent.Add(n)
			sent(n)
		},
		Stalled: func(d time.Duration) {
			e.env.Progress.Warn("the Engine has neither taken a byte nor said anything for %s", progress.Duration(d))
		},
	}
}

// loading shows the Engine's unpacking, of which it tells layer by layer, as one
// count up to the bytes of all layers that were sent.
func loading(task *progress.Task, plain *atomic.Int64) func(layer string, done, total int64) {
	var current string
	var at int64
	return func(layer string, done, _ int64) {
		if layer != current {
			task.Phase(progress.Loading)
			task.SetTotal(plain.Load())
			current, at = layer, 0
		}
		task.Add(done - at)
		at = done
	}
}

// write makes the archive: layers in the order in which they are ready.
func (s *sending) write(ctx context.Context, task *progress.Task) error {
	for range s.layers {
		var a arrival
		select {
		case a = <-s.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !s.all && !s.e.lacks(a.layer) {
			continue // the image before this one has brought it
		}
		s.sent++
		s.sizes[a.layer.DiffID] = a.p.size
		task.SetTotal(s.plain.Add(a.p.size))
		if err := s.archive.Blob(a.layer.DiffID, a.p.size, a.p.reader()); err != nil {
			return err
		}
		if a.p.packed == nil || !s.form.keepsBlobs() {
			continue
		}
		task.SetTotal(s.plain.Add(a.layer.Blob.Size))
		if err := s.archive.Blob(a.layer.Blob.Digest, a.layer.Blob.Size, io.NewSectionReader(a.p.packed, 0, a.layer.Blob.Size)); err != nil {
			return err
		}
	}
	return s.form.finish(s)
}

// whole reports whether all layers of the image were sent.
func (s *sending) whole() bool { return s.sent == len(s.e.distinct(s.img.Layers)) }

// document adds a small blob to the archive.
func (s *sending) document(data []byte) error {
	return s.archive.Blob(digest.FromBytes(data), int64(len(data)), bytes.NewReader(data))
}
