package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/internal/partial"
)

const (
	// minResumable is the size of the smallest blob that is downloaded into a file.
	minResumable = 1 << 20
	// followEvery is how often a process reads the record of a file that another one writes.
	followEvery = 20 * time.Millisecond
)

// Download reads a blob from the front while it is downloaded into a file, from which another
// process can continue after an interruption or a kill. Use it like the reader of
// [Client.Blob].
type Download struct {
	transfer
	ctx    context.Context
	cancel context.CancelFunc
	more   chan struct{}      // receives a value when the file has more bytes
	done   chan struct{}      // closed when the file gets no more bytes
	stop   context.CancelFunc // stops only the writes to the file
	failed error              // why they stopped; set before done is closed

	mu     sync.Mutex // held by Read throughout, so taken after cancel
	pos    int64
	direct *part // the connection that bypasses the file, or nil
	err    error // sticky, of Read; io.EOF at the end
	closed bool
}

// Target opens the file for a download: a [partial.Folder], or a [partial.Section] of a larger
// file.
type Target interface {
	Open(blob digest.Digest, size int64) (*partial.File, error)
}

// Download opens a blob like [Client.Blob], and downloads it into the file that in opens.
// Several processes may download a blob into the same folder: one process downloads, and the
// others read its file and take over if it ends. waiting, which may be nil, is called once if
// another process downloads. A section of a larger file has no other processes, and a failure to
// write to it is an error.
//
// The file stays until [Download.Discard]. A small blob, and a blob for which in is nil or opens
// no file, is read over one connection.
func (c *Client) Download(ctx context.Context, ref Reference, d ocispec.Descriptor, in Target, waiting func()) (*Download, error) {
	e, err := blobErrand(ref, d)
	if err != nil {
		return nil, err
	}
	dl := &Download{
		transfer: transfer{errand: e, client: c, desc: d, sources: &sources{blob: d.Digest}},
		more:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	dl.ctx, dl.cancel = context.WithCancel(ctx)
	if in != nil && c.Resumable(d.Size) {
		dl.file, err = in.Open(d.Digest, d.Size)
	}
	if dl.file == nil || err != nil {
		close(dl.done)
		return dl, dl.straight()
	}
	dl.moved = func() {
		select {
		case dl.more <- struct{}{}:
		default:
		}
	}
	filling, stop := context.WithCancel(dl.ctx)
	dl.stop = stop
	go func() {
		defer stop()
		dl.failed = dl.fill(filling, waiting)
		close(dl.done)
	}()
	return dl, nil
}

// straight begins to read the blob without a file.
func (dl *Download) straight() error {
	dl.leave()
	if err := dl.direct.reopen(dl.ctx, nil); err != nil {
		dl.cancel()
		return dl.explain(err)
	}
	return nil
}

// errSilent ends the wait for another process.
var errSilent = errors.New("another process has the blob and does nothing")

// fill returns when the file is complete, whichever process completed it.
func (dl *Download) fill(ctx context.Context, waiting func()) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	// The other process may wait as long for the registry as this one would, and a little longer.
	patient := 2*dl.client.opt.StallTimeout + dl.client.followGrace
	for last := time.Now(); dl.file.Left() > 0; {
		mine, err := dl.file.Own()
		if err != nil {
			return fmt.Errorf("%w: %w", errPartialFile, err)
		}
		if mine {
			dl.moved()
			if dl.file.Left() == 0 {
				break
			}
			return dl.run(ctx)
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if dl.file.Refresh() {
			last = time.Now()
			dl.moved()
		} else if time.Since(last) > patient {
			return errSilent
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Read implements [io.Reader].
func (dl *Download) Read(p []byte) (int, error) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	if dl.err != nil {
		return 0, dl.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := dl.read(p)
	dl.pos += int64(n)
	dl.transfer.read.Store(dl.pos)
	if err != nil {
		if err != io.EOF {
			err = dl.explain(err)
		}
		dl.err = err
		dl.cancel()
		if dl.direct != nil {
			dl.direct.drop()
		}
	}
	return n, err
}

func (dl *Download) read(p []byte) (int, error) {
	ended := false
	for {
		if dl.direct != nil {
			n, err := dl.direct.read(dl.ctx, p)
			dl.fetched.Add(int64(n))
			if err != io.EOF || dl.pos == dl.desc.Size {
				return n, err
			}
			dl.direct.drop() // what follows is in the file
			dl.direct = nil
		}
		if dl.pos == dl.desc.Size {
			return 0, io.EOF
		}
		n, err := dl.file.ReadWhole(p, dl.pos)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			if dl.file.InSection() {
				return 0, fmt.Errorf("%w: %w", errPartialFile, err)
			}
			dl.abandon() // a disk error need not end the download
			continue
		}
		if ended {
			// The file cannot be written, or another process does nothing: continue without it.
			switch {
			case errors.Is(dl.failed, errPartialFile) && !dl.file.InSection():
				dl.abandon()
			case errors.Is(dl.failed, errSilent):
				dl.leave()
				_, dl.direct.end = dl.file.Missing(dl.pos)
				dl.direct.whole = func() { dl.direct.end = dl.desc.Size }
			default:
				return 0, dl.failed
			}
			continue
		}
		select {
		case <-dl.more:
		case <-dl.done:
			ended = true // and the last bytes are in the file now
		case <-dl.ctx.Done():
			return 0, dl.ctx.Err()
		}
	}
}

// abandon stops the writes to the file, removes it, and continues without it.
func (dl *Download) abandon() {
	dl.stop()
	<-dl.done
	_ = dl.file.Remove()
	dl.leave()
}

// leave reads the rest of the blob over one connection, past the file.
func (dl *Download) leave() {
	dl.direct = dl.client.part(dl.errand, dl.desc, dl.sources)
	dl.direct.pos = dl.pos
}

// Came returns a channel that is closed when the blob's file gets no more bytes. It is nil if
// there is no file.
func (dl *Download) Came() <-chan struct{} {
	if dl.file == nil {
		return nil
	}
	return dl.done
}

// Whole returns how many bytes of the blob are in its file, and whether the file is complete.
func (dl *Download) Whole() (n int64, all bool) {
	if dl.file == nil {
		return 0, false
	}
	n = dl.desc.Size - dl.file.Left()
	return n, n == dl.desc.Size
}

// InSection reports whether the blob is downloaded into a [partial.Section]. A small blob is
// not: its reader has to write it there.
func (dl *Download) InSection() bool { return dl.file != nil && dl.file.InSection() }

// Fetched returns how many bytes this process has downloaded from the registry for this reader.
func (dl *Download) Fetched() int64 { return dl.fetched.Load() }

// Close ends the transfer. The bytes downloaded stay on disk.
func (dl *Download) Close() error {
	dl.cancel() // ends a Read in progress, which has the lock
	<-dl.done
	dl.mu.Lock()
	defer dl.mu.Unlock()
	if dl.closed {
		return nil
	}
	dl.closed = true
	if dl.direct != nil {
		dl.direct.drop()
	}
	dl.err = fmt.Errorf("%s: %w", dl.doing, fs.ErrClosed)
	if dl.file != nil {
		return dl.file.Close()
	}
	return nil
}

// Discard removes the file of the blob. It may be called after Close.
func (dl *Download) Discard() error {
	if dl.file == nil {
		return nil
	}
	return dl.file.Remove()
}

// Resumable reports whether [Client.Download] downloads blobs of a size into files.
func (c *Client) Resumable(size int64) bool { return size >= minResumable }

// MoveTo moves the file of a complete and verified blob to path; see [partial.File.MoveTo].
func (dl *Download) MoveTo(path string, durable bool) (bool, error) {
	if dl.file == nil {
		return false, nil
	}
	return dl.file.MoveTo(path, durable)
}

// Distrust is for a blob that arrived damaged. It removes the file, and asks the hosts that sent
// the blob for no more ranges.
func (dl *Download) Distrust() error {
	dl.sources.distrust()
	return dl.Discard()
}
