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
	// keepFrom is the size from which a blob is worth a file.
	keepFrom = 1 << 20
	// followEvery is how often a process looks what another one has fetched.
	followEvery = 20 * time.Millisecond
)

// Kept is a blob that is downloaded into a file, so that another process can continue after an
// interruption or a kill. It is read from the front while the file fills. Use it like the
// reader of [Client.Blob].
type Kept struct {
	transfer
	ctx    context.Context
	cancel context.CancelFunc
	more   chan struct{}      // has something when there is more of the file
	done   chan struct{}      // closed when nothing more comes into the file
	stop   context.CancelFunc // ends the filling alone
	failed error              // why it ended, set before

	mu     sync.Mutex // held by Read throughout, so taken after cancel
	pos    int64
	direct *part // what brings the rest when the file cannot
	err    error // the end of the reader, io.EOF included
	closed bool
}

// Place is where blobs are kept: a [partial.Folder], or a [partial.Section] of a file.
type Place interface {
	Open(blob digest.Digest, size int64) (*partial.File, error)
}

// Keep opens a blob like [Client.Blob], by way of a file in a folder. Several processes may do
// so at the same time: one downloads, and the others read what it has written and take over
// when it ends. waiting, which may be nil, is called once if another process downloads. In a
// section of a larger file there is no other process, and bytes that cannot be written are an
// error.
//
// The file stays until [Kept.Discard]. A small blob, a blob without a place, and one for which
// no file can be made, is read over one connection.
func (c *Client) Keep(ctx context.Context, ref Reference, d ocispec.Descriptor, in Place, waiting func()) (*Kept, error) {
	e, err := blobErrand(ref, d)
	if err != nil {
		return nil, err
	}
	k := &Kept{
		transfer: transfer{errand: e, client: c, desc: d, sources: &sources{blob: d.Digest}},
		more:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	k.ctx, k.cancel = context.WithCancel(ctx)
	if in != nil && c.Keeps(d.Size) {
		k.file, err = in.Open(d.Digest, d.Size)
	}
	if k.file == nil || err != nil {
		close(k.done)
		return k, k.straight()
	}
	k.moved = func() {
		select {
		case k.more <- struct{}{}:
		default:
		}
	}
	filling, stop := context.WithCancel(k.ctx)
	k.stop = stop
	go func() {
		defer stop()
		k.failed = k.fill(filling, waiting)
		close(k.done)
	}()
	return k, nil
}

// straight begins without a file.
func (k *Kept) straight() error {
	k.leave()
	if err := k.direct.reopen(k.ctx, nil); err != nil {
		k.cancel()
		return k.explain(err)
	}
	return nil
}

// errSilent is the end of waiting for another process.
var errSilent = errors.New("another process has the blob and does nothing")

// fill returns when the file is whole, by this process or another.
func (k *Kept) fill(ctx context.Context, waiting func()) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	// The other one is given the time that it gives the registry, and some more.
	patient := 2*k.client.opt.StallTimeout + k.client.followGrace
	for last := time.Now(); k.file.Left() > 0; {
		mine, err := k.file.Own()
		if err != nil {
			return fmt.Errorf("%w: %w", errKeep, err)
		}
		if mine {
			k.moved()
			if k.file.Left() == 0 {
				break
			}
			return k.run(ctx)
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if k.file.Refresh() {
			last = time.Now()
			k.moved()
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
func (k *Kept) Read(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return 0, k.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := k.read(p)
	k.pos += int64(n)
	k.transfer.read.Store(k.pos)
	if err != nil {
		if err != io.EOF {
			err = k.explain(err)
		}
		k.err = err
		k.cancel()
		if k.direct != nil {
			k.direct.drop()
		}
	}
	return n, err
}

func (k *Kept) read(p []byte) (int, error) {
	ended := false
	for {
		if k.direct != nil {
			n, err := k.direct.read(k.ctx, p)
			k.fetched.Add(int64(n))
			if err != io.EOF || k.pos == k.desc.Size {
				return n, err
			}
			k.direct.drop() // what follows is in the file
			k.direct = nil
		}
		if k.pos == k.desc.Size {
			return 0, io.EOF
		}
		n, err := k.file.ReadWhole(p, k.pos)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			if k.file.InSection() {
				return 0, fmt.Errorf("%w: %w", errKeep, err)
			}
			k.abandon() // a bad disk is no reason to fail
			continue
		}
		if ended {
			// The disk is full, say, or belongs to another. It goes without.
			switch {
			case errors.Is(k.failed, errKeep) && !k.file.InSection():
				k.abandon()
			case errors.Is(k.failed, errSilent):
				k.leave()
				_, k.direct.end = k.file.Missing(k.pos)
				k.direct.whole = func() { k.direct.end = k.desc.Size }
			default:
				return 0, k.failed
			}
			continue
		}
		select {
		case <-k.more:
		case <-k.done:
			ended = true // and the last bytes are in the file now
		case <-k.ctx.Done():
			return 0, k.ctx.Err()
		}
	}
}

// abandon removes the file, and leaves it.
func (k *Kept) abandon() {
	k.stop()
	<-k.done
	_ = k.file.Remove()
	k.leave()
}

// leave makes the rest come by one connection, past the file.
func (k *Kept) leave() {
	k.direct = k.client.part(k.errand, k.desc, k.sources)
	k.direct.pos = k.pos
}

// Came returns what is closed when no more of the blob comes into its file; nil if
// there is no file.
func (k *Kept) Came() <-chan struct{} {
	if k.file == nil {
		return nil
	}
	return k.done
}

// Whole returns how many bytes of the blob are in its file, and if that is all.
func (k *Kept) Whole() (n int64, all bool) {
	if k.file == nil {
		return 0, false
	}
	n = k.desc.Size - k.file.Left()
	return n, n == k.desc.Size
}

// InSection reports whether the blob is downloaded into a [partial.Section]. A small blob is
// not: its reader has to write it there.
func (k *Kept) InSection() bool { return k.file != nil && k.file.InSection() }

// Fetched returns how many bytes have come from the registry, to this process and
// for this reader.
func (k *Kept) Fetched() int64 { return k.fetched.Load() }

// Close ends the transfer. The bytes downloaded stay on disk. It does not fail.
func (k *Kept) Close() error {
	k.cancel() // ends a Read in progress, which has the lock
	<-k.done
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	k.closed = true
	if k.direct != nil {
		k.direct.drop()
	}
	k.err = fmt.Errorf("%s: %w", k.doing, fs.ErrClosed)
	if k.file != nil {
		return k.file.Close()
	}
	return nil
}

// Discard removes the file of the blob, which may be closed: it is not needed any
// more.
func (k *Kept) Discard() error {
	if k.file == nil {
		return nil
	}
	return k.file.Remove()
}

// Keeps reports whether [Client.Keep] keeps blobs of a size in files.
func (c *Client) Keeps(size int64) bool { return size >= keepFrom }

// MoveTo makes the file of the blob, which is complete and verified, the file at path;
// see [partial.File.MoveTo].
func (k *Kept) MoveTo(path string, durable bool) (bool, error) {
	if k.file == nil {
		return false, nil
	}
	return k.file.MoveTo(path, durable)
}

// Distrust is for a blob that arrived damaged: its file goes, and the hosts that it
// came from are not asked for ranges again.
func (k *Kept) Distrust() error {
	k.sources.distrust()
	return k.Discard()
}
