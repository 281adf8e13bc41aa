package serve

import (
	"errors"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/overlay"
)

// tarBlob is a layer's tar that is made from where it is read on.
type tarBlob struct {
	from *stored
	l    *storedLayer
	off  int64
	r    *overlay.TarReader // at off, or nil
	err  error
}

// Read implements [io.Reader].
func (b *tarBlob) Read(p []byte) (n int, err error) {
	if b.off >= b.l.size {
		return 0, io.EOF
	}
	if b.r == nil {
		if b.r, err = b.from.idle.take(b.l.use.ChainID, b.off); b.r == nil && err == nil {
			b.r, err = b.from.r.TarFrom(b.l.use, b.off, b.l.mark)
		}
	}
	if err == nil {
		n, err = b.r.Read(p)
		b.off += int64(n)
	}
	b.err = err
	return n, err
}

// Seek implements [io.Seeker].
func (b *tarBlob) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += b.off
	case io.SeekEnd:
		off += b.l.size
	}
	if off < 0 {
		return 0, errors.New("a place before the beginning")
	}
	if off != b.off {
		if err := b.Close(); err != nil {
			return 0, err
		}
		b.off = off
	}
	return off, nil
}

// Close implements [io.Closer]. Whoever asks for what follows may go on with it.
func (b *tarBlob) Close() (err error) {
	switch {
	case b.r == nil:
	case b.err == nil && b.off < b.l.size:
		err = b.from.idle.put(b.l.use.ChainID, b.off, b.r)
	default:
		err = b.r.Close()
	}
	b.r = nil
	return err
}

// maxIdle is how many tars stay open for those who ask for what follows.
const maxIdle = 16

// idle has tars that were read up to some place. Clients ask for a large layer range by
// range, and to get to a place tar-split has to be read from the beginning, or from
// another place before it: such a one.
type idle struct {
	mu   sync.Mutex
	tars []idleTar // the one that was put last is the last
}

type idleTar struct {
	layer digest.Digest // chainID
	at    int64
	r     *overlay.TarReader
}

// take returns the tar that is nearest before a place, brought there; nil if there
// is none.
func (i *idle) take(layer digest.Digest, off int64) (*overlay.TarReader, error) {
	i.mu.Lock()
	best := -1
	for n, t := range i.tars {
		if t.layer == layer && t.at <= off && (best < 0 || t.at > i.tars[best].at) {
			best = n
		}
	}
	if best < 0 {
		i.mu.Unlock()
		return nil, nil
	}
	t := i.tars[best]
	i.tars = append(i.tars[:best], i.tars[best+1:]...)
	i.mu.Unlock()
	if err := t.r.Skip(off - t.at); err != nil {
		return nil, errors.Join(err, t.r.Close())
	}
	return t.r, nil
}

// put keeps a tar, and lets go of the one that was put first if they are many.
func (i *idle) put(layer digest.Digest, at int64, r *overlay.TarReader) error {
	i.mu.Lock()
	i.tars = append(i.tars, idleTar{layer, at, r})
	var last *overlay.TarReader
	if len(i.tars) > maxIdle {
		last = i.tars[0].r
		i.tars = i.tars[1:]
	}
	i.mu.Unlock()
	if last != nil {
		return last.Close()
	}
	return nil
}
