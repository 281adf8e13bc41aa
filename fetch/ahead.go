package fetch

import (
	"bytes"
	"context"
	"io"
	"sync"
)

const (
	// aheadMost is the size of the largest blob that is downloaded before its layer has a
	// slot. A smaller one takes about as long as the round trips to the registry.
	aheadMost = 1 << 20
	// aheadLimit is how many bytes of such blobs are in memory at a time.
	aheadLimit = 16 << 20
)

// ahead counts the bytes of blobs that are downloaded ahead.
type ahead struct {
	mu   sync.Mutex
	used int64
}

// take reports whether n more bytes fit into the limit, and counts them.
func (a *ahead) take(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > aheadMost || a.used+n > aheadLimit {
		return false
	}
	a.used += n
	return true
}

func (a *ahead) give(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= n
}

// early is a small blob that is downloaded into memory while its layer waits for a slot. The
// download does not wait for a reader, so that connections do not wait for slots.
type early struct {
	cancel context.CancelFunc
	give   func()
	taken  bool          // the blob has another owner
	done   chan struct{} // closed when the fields below are set
	blob   Blob          // nil if it could not be opened
	data   bytes.Reader
	err    error // after data, io.EOF at the end of the blob
}

// start begins to download the blob of a layer if it is small. It returns nil if it is not,
// or if it does not fit into the limit.
func (f *Fetcher) start(ctx context.Context, q Request) *early {
	size := q.Layer.Blob.Size
	if q.Target != nil || q.Have != nil || !f.ahead.take(size) {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	e := &early{cancel: cancel, give: sync.OnceFunc(func() { f.ahead.give(size) }), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		if e.blob, e.err = f.open(ctx, q); e.err != nil {
			return
		}
		data := make([]byte, size)
		n, err := io.ReadFull(e.blob, data)
		if err == nil {
			_, err = e.blob.Read(make([]byte, 1)) // the end, or why it is none
		}
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		e.data, e.err = *bytes.NewReader(data[:n]), err
	}()
	return e
}

// wait returns the blob when all of it is there, or why it could not be opened.
func (e *early) wait(ctx context.Context) (Blob, error) {
	select {
	case <-e.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if e.blob == nil {
		return nil, e.err
	}
	e.taken = true
	return earlyBlob{e.blob, e}, nil
}

// end ends the download, and frees its memory.
func (e *early) end() {
	e.cancel()
	<-e.done
	if e.blob != nil && !e.taken {
		_ = e.blob.Close() // nothing of it is used
	}
	e.give()
}

// earlyBlob is the blob of an early.
type earlyBlob struct {
	Blob
	e *early
}

// Read implements [io.Reader].
func (b earlyBlob) Read(p []byte) (int, error) {
	if n, err := b.e.data.Read(p); err != io.EOF {
		return n, err
	}
	return 0, b.e.err
}
