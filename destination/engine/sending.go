package engine

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/image"
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
	layers  []image.Layer // that will be ready
	view    *view
	all     bool                    // send also those that the Engine seems to have
	sent    int                     // how many were sent
	sizes   map[digest.Digest]int64 // of these layers, by diffID
	archive *bundle.Writer
	stage   digest.Digest // of a stagedForm, once it is sent
}

// load sends the image and makes sure that the Engine has it.
func (s *sending) load(ctx context.Context) error {
	defer s.form.sweep(ctx, s)
	err := s.e.post(ctx, s.view.watch(sentPart), 0, func(ctx context.Context, out *outgoing) error {
		s.archive, s.sizes = out.Writer, make(map[digest.Digest]int64)
		return s.write(ctx)
	})
	if err == nil {
		err = s.form.prove(ctx, s)
	}
	if err == nil {
		s.view.has(s.layers...)
	} else {
		err = fmt.Errorf("load into the Engine: %w", err)
	}
	s.view.end(err)
	return err
}

// sentPart is the part of a layer that is shown as loaded when the Engine has its bytes. The
// rest is shown while the Engine unpacks the layer, after the end of the archive.
const sentPart = 0.5

// write makes the archive: layers in the order in which they are ready.
func (s *sending) write(ctx context.Context) error {
	for range s.layers {
		var a arrival
		select {
		case a = <-s.ready:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !s.all && !s.e.lacks(a.layer) {
			s.view.has(a.layer)
			continue // the image before this one has brought it
		}
		s.sent++
		s.sizes[a.layer.DiffID] = a.p.size
		if err := s.archive.Blob(a.layer.DiffID, a.p.size, s.view.sending(a.layer, a.p.reader(), a.p.size, sentPart)); err != nil {
			return err
		}
		if a.p.packed == nil || !s.form.sendsBlobs() {
			continue
		}
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
