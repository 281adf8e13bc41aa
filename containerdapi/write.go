package containerdapi

import (
	"context"
	"errors"
	"io"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
)

// partSize is how much of a blob goes into one message.
const partSize = 1 << 20

// releaseTimeout is how long [Writer.Close] waits until containerd has let go of a blob.
const releaseTimeout = 5 * time.Second

// Writer writes a blob into the content store. The bytes that were written stay there
// under the writer's ref when it is closed, and the next writer goes on with them.
type Writer struct {
	steps
	ref    string
	stream contentapi.Content_WriteClient
	offset int64
	buf    []byte
	open   bool
}

// WriteBlob begins to write a blob under a ref, which names the attempt. size may be 0, if
// it is not known. The error is an AlreadyExists if the blob is there, and an Unavailable
// if another writer has the ref.
func (c *Client) WriteBlob(ctx context.Context, ref string, d digest.Digest, size int64) (_ *Writer, err error) {
	w := &Writer{steps: c.steps(ctx), ref: ref, open: true}
	defer func() {
		if err != nil {
			w.end()
		}
	}()
	if w.stream, err = c.content().Write(w.ctx); err != nil {
		return nil, native(w.ctx, err)
	}
	answer, err := w.send(&contentapi.WriteContentRequest{Action: contentapi.WriteAction_STAT, Ref: ref, Total: size, Expected: d.String()})
	if err != nil {
		return nil, err
	}
	w.offset = answer.Offset
	return w, nil
}

// Offset returns how many bytes of the blob were written. If containerd has the blob in
// another namespace it is all of them: then only Commit is left to do.
func (w *Writer) Offset() int64 { return w.offset }

// ReadFrom implements [io.ReaderFrom].
func (w *Writer) ReadFrom(r io.Reader) (n int64, err error) {
	if w.buf == nil {
		w.buf = make([]byte, partSize)
	}
	for {
		got, err := io.ReadFull(r, w.buf)
		if got > 0 {
			answer, werr := w.send(&contentapi.WriteContentRequest{Action: contentapi.WriteAction_WRITE, Offset: w.offset, Data: w.buf[:got]})
			if werr != nil {
				return n, werr
			}
			w.offset = answer.Offset
			n += int64(got)
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return n, nil
		default:
			return n, err
		}
	}
}

// Restart throws away what was written so far.
func (w *Writer) Restart() error {
	if w.offset == 0 {
		return nil
	}
	// The offset 0 is what truncates the blob.
	answer, err := w.send(&contentapi.WriteContentRequest{Action: contentapi.WriteAction_WRITE})
	if err != nil {
		return err
	}
	w.offset = answer.Offset
	return nil
}

// Commit makes the blob visible, if its bytes hash to its digest: otherwise the error is a
// FailedPrecondition. A blob that is there meanwhile is no error, but does not get the
// labels.
func (w *Writer) Commit(d digest.Digest, labels map[string]string) error {
	_, err := w.send(&contentapi.WriteContentRequest{
		Action: contentapi.WriteAction_COMMIT, Offset: w.offset, Total: w.offset, Expected: d.String(), Labels: labels,
	})
	if errdefs.IsAlreadyExists(err) {
		err = nil
	}
	return errors.Join(err, w.Close())
}

// Close ends the writer, and waits until another one can have its ref.
func (w *Writer) Close() error {
	if !w.open {
		return nil
	}
	w.open = false
	w.stall = min(w.stall, releaseTimeout)
	_ = w.step(w.stream.CloseSend)
	for { // the end of the stream comes after the ref was released
		if err := w.step(func() error { _, err := w.stream.Recv(); return err }); err != nil {
			break
		}
	}
	w.end()
	return nil
}

// send does one step of the stream.
func (w *Writer) send(q *contentapi.WriteContentRequest) (answer *contentapi.WriteContentResponse, err error) {
	err = w.step(func() (err error) {
		if err = w.stream.Send(q); err != nil && err != io.EOF { // of which Recv tells why
			return err
		}
		answer, err = w.stream.Recv()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	return answer, err
}

// AbortWrite removes what was written under a ref.
func (c *Client) AbortWrite(ctx context.Context, ref string) error {
	_, err := call(ctx, c, c.content().Abort, &contentapi.AbortRequest{Ref: ref})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
