package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"

	"github.com/fastpull/fastpull/fault"
)

// ErrLayerMissing is in the chain of the error of [Engine.Load] if manifest.json names a file
// that is not in the archive, and the Engine has no such layer. The image that had the layer
// was removed after [Engine.Inventory]. Loading again, with every layer, helps.
var ErrLayerMissing = errors.New("the Engine lacks a layer that is not in the archive")

// sourceGrace is how long Load waits for a Read of the archive that is under
// way when the load is over.
const sourceGrace = 500 * time.Millisecond

// Load gives the Engine the images of an archive, an uncompressed tar: a docker-archive with
// plain layers for a graph driver, an OCI layout for containerd's store. Layers that the
// Engine has may be left out. The package documentation describes this, and what proves that
// the Engine has the images afterwards.
//
// Another goroutine reads tar. If tar is an io.Closer it is closed when the load is over,
// whatever its outcome. Close must end a Read that waits, as that of an io.PipeReader does, or
// else the end of the caller's context must. Load itself returns within a second of the end of
// ctx in any case, but a goroutine stays in a Read that never returns.
//
// Load gives up if the Engine neither takes a byte nor sends a message for
// Options.StallTimeout. An Engine that keeps working may take all day. Time in which tar has
// nothing to give does not count. An Engine with containerd's store sends nothing while it
// unpacks, and gets six times as long for that.
//
// An error of tar is returned wrapped. Otherwise the error is the Engine's message, if there
// was one.
func (e *Engine) Load(ctx context.Context, tar io.Reader, w Watch) error {
	return e.give(ctx, tar, w, func(ctx context.Context, body io.ReadCloser) (io.ReadCloser, error) {
		return e.cli.ImageLoad(ctx, body, client.ImageLoadWithQuiet(false))
	})
}

// give makes a request with tar as its body, as [Engine.Load] describes.
func (e *Engine) give(ctx context.Context, tar io.Reader, w Watch, request func(context.Context, io.ReadCloser) (io.ReadCloser, error)) error {
	// A connection that the Engine closed while it was idle would fail the
	// load: with its body half gone, the request cannot be sent again.
	_ = e.Close()

	running, cancel := context.WithCancelCause(ctx)
	src := newFeed(tar, running.Done(), func(err error) { cancel(&sourceError{err}) })
	m := newMeter(w)
	outcome := make(chan error, 1)
	go func() {
		answer, err := request(running, &body{src, m})
		if err == nil {
			err = readMessages(answer, m)
			answer.Close()
		}
		outcome <- err
	}()

	err := m.watch(running, outcome, e.patience)
	cancel(errOver)
	m.mute()
	src.close(sourceGrace)

	var srcErr *sourceError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("load into the %s: %w", e, context.Cause(ctx))
	case errors.As(context.Cause(running), &srcErr):
		return fmt.Errorf("read the image to load into the %s: %w", e, srcErr.error)
	}
	return e.loadError(err)
}

// sourceError ends a load whose source has failed.
type sourceError struct{ error }

// errOver ends what still runs when the outcome of a load is known.
var errOver = errors.New("the load is over")

// patience returns how long the Engine may give no sign of life.
func (e *Engine) patience(sentAll bool) time.Duration {
	if sentAll && e.Containerd() {
		return 6 * e.stall
	}
	return e.stall
}

// loadError says what a failed load means to the user.
func (e *Engine) loadError(err error) error {
	text := err.Error()
	switch {
	case lacksLayer(text):
		err = fault.WithHint(fmt.Errorf("%w: %w", ErrLayerMissing, err),
			"an image was removed from the Engine meanwhile; run the command again")
	case strings.Contains(text, noSpace):
		err = fault.WithHint(err, "%s", e.needsSpace())
	case brokenOff(err):
		err = fault.WithHint(fmt.Errorf("it broke off the connection: %w", withoutURL(err)),
			"dockerd may have stopped or been restarted; look at its log")
	}
	return classify(fmt.Errorf("load into the %s: %w", e, err))
}

// Refused reports whether a load failed because the Engine said so, for a reason that lies
// in the archive and not in a full disk.
func Refused(err error) bool {
	var said engineError
	return errors.As(err, &said) && !strings.Contains(err.Error(), noSpace)
}

// noSpace is in errors of an Engine whose disk is full.
const noSpace = "no space left on device"

// lacksLayer reports whether an error of the Engine is about a layer that neither it nor
// the archive has. With a graph driver the Engine unpacks the archive to a folder
// docker-import-… and opens the layers there. With containerd's store it looks them up in
// the content store.
func lacksLayer(text string) bool {
	return strings.Contains(text, "docker-import-") && strings.Contains(text, "no such file or directory") ||
		strings.Contains(text, "content digest") && strings.Contains(text, "not found")
}

// needsSpace says where the Engine needs how much room.
func (e *Engine) needsSpace() string {
	if e.Containerd() {
		return "the Engine needs room for the image three times while it is loaded: its containerd keeps layers as they come, as plain tars and unpacked"
	}
	return "the Engine needs room for the image twice, in its temporary folder and in its data-root " + e.Root()
}

// brokenOff reports whether the peer hung up before it had answered. The
// connection is closed on this side when its reader learns that first.
func brokenOff(err error) bool {
	return slices.ContainsFunc([]error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE,
	}, func(e error) bool { return errors.Is(err, e) })
}
