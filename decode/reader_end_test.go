package decode

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stuck gives what it has and then waits until it is closed, as a connection
// does.
type stuck struct {
	have   *bytes.Reader
	closed chan struct{}
	once   sync.Once
}

func newStuck(b []byte) *stuck { return &stuck{have: bytes.NewReader(b), closed: make(chan struct{})} }

func (s *stuck) Read(p []byte) (int, error) {
	if n, err := s.have.Read(p); err == nil {
		return n, nil
	}
	<-s.closed
	return 0, errors.New("read on a closed connection")
}

func (s *stuck) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Each state a Reader can be stuck in ends with the context and with Close, at
// once, and leaves no goroutine: synctest panics for one that is left.
func TestEnds(t *testing.T) {
	const more = 13                               // and more than fits into the queues
	plain := bytes.Repeat(content(256<<10), more) // easily decoded
	member := gz(t, plain[:256<<10])
	blobs := map[string]struct{ blob, plain []byte }{
		"gzip": {gz(t, plain), plain}, "zstd": {zst(t, plain), plain}, "plain": {plain, plain},
		"frames":  {framed(t, plain, 64<<10), plain},
		"members": {bytes.Repeat(member, more), plain},
		"xz":      {xzed(t, plain[:256<<10]), plain[:256<<10]}, // slow,
	}
	reason := errors.New("enough")
	if defaultGzip != GzipAuto { // TestGzips
		delete(blobs, "zstd")
		delete(blobs, "frames")
		delete(blobs, "plain")
		delete(blobs, "xz")
	}
	for name, b := range blobs {
		for i, state := range []struct {
			name string
			have int // bytes of the blob that come
			read int // bytes that are read; -1: all there are, and wait for more
		}{
			{"nothing came", 0, 0},
			{"nothing came, and Read waits", 0, -1},
			{"the magic came, and Read waits", 8, -1},
			{"half came, nobody reads", len(b.blob) / 2, 0},
			{"half came, a little was read", len(b.blob) / 2, 10},
			{"half came, and Read waits", len(b.blob) / 2, -1},
			{"all but the end came, and Read waits", len(b.blob), -1},
			{"all came, nobody reads", len(b.blob) + 1, 0}, // +1: and its end
			{"all came, a little was read", len(b.blob) + 1, 10},
		} {
			if name == "xz" && state.have > len(b.blob) {
				continue // it fits into the queues, and ends well
			}
			for _, byClose := range []bool{false, true} {
				if name != "gzip" && byClose == (i%2 == 0) {
					continue // both ways for the usual format, one for the others
				}
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancelCause(context.Background())
					defer cancel(nil)
					src := newStuck(b.blob[:min(state.have, len(b.blob))])
					var blob io.ReadCloser = src
					if state.have > len(b.blob) {
						blob = bytesBlob(b.blob)
					}
					r := NewReader(ctx, blob, expect(b.blob, b.plain), ReaderOptions{Options: Options{Cores: NewCores(4)}})
					ended := make(chan error, 1)
					go func() {
						if state.read >= 0 {
							_, err := io.ReadFull(r, make([]byte, state.read))
							ended <- err
							return
						}
						_, err := io.Copy(io.Discard, r)
						ended <- err
					}()
					synctest.Wait() // every goroutine waits for another one
					start := time.Now()
					if byClose {
						r.Close()
					} else {
						cancel(reason)
					}
					err := <-ended
					if state.read < 0 && byClose && err != errClosed || state.read < 0 && !byClose && err != reason {
						t.Errorf("%s, %s: Read ends with %v", name, state.name, err)
					}
					if _, err := io.Copy(io.Discard, r); err == nil {
						t.Errorf("%s, %s: whole, after it was ended", name, state.name)
					}
					r.Close()
					r.Close()
					if d := time.Since(start); d > 0 {
						t.Errorf("%s, %s: took %s", name, state.name, d)
					}
				})
			}
		}
	}
}

// Once the end was read the layer is whole, whatever happens then.
func TestCancelAfterTheEnd(t *testing.T) {
	plain := content(1 << 20)
	blob := gz(t, plain)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := NewReader(ctx, bytesBlob(blob), expect(blob, plain), ReaderOptions{})
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
		cancel()
		synctest.Wait()
		if _, err := r.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read at the end: %v", err)
		}
		if err := errors.Join(r.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A context that is over before the start.
func TestCancelledBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := NewReader(ctx, newStuck(nil), expect(nil, nil), ReaderOptions{})
		if n, err := r.Read(make([]byte, 1)); n != 0 || err != context.Canceled {
			t.Errorf("%d, %v", n, err)
		}
		r.Close()
	})
}

// A decoder that gives up early lets the rest of the blob come, for its digest,
// and leaves no goroutine behind.
func TestFailuresLeaveNobody(t *testing.T) {
	plain := content(1 << 20)
	for name, blob := range map[string][]byte{"gzip": gz(t, plain), "zstd": zst(t, plain), "frames": framed(t, plain, 64<<10), "xz": xzed(t, plain[:1<<17])} {
		blob[len(blob)/3] ^= 0x55
		blob[len(blob)/3+1] ^= 0x55
		for _, o := range []ReaderOptions{{}, {MaxPlain: 100 << 10}, {Options: Options{Cores: NewCores(4)}}} {
			synctest.Test(t, func(t *testing.T) {
				r := NewReader(t.Context(), bytesBlob(blob), expect(blob, plain), o)
				if n, err := io.Copy(io.Discard, r); err == nil {
					t.Errorf("%s: %d bytes, and no error", name, n)
				}
				r.Close()
			})
		}
	}
}

// Close may come from another goroutine than Read's.
func TestCloseBeside(t *testing.T) {
	plain := content(1 << 20)
	blob := gz(t, plain)
	for range 5 {
		r := NewReader(t.Context(), bytesBlob(blob), expect(blob, plain), ReaderOptions{})
		var wg sync.WaitGroup
		first := make(chan struct{})
		wg.Go(func() {
			buf := make([]byte, 1000)
			r.Read(buf)
			close(first)
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf); err != nil && err != errClosed {
				t.Errorf("Read: %v", err)
			}
		})
		for range 2 {
			wg.Go(func() {
				<-first
				r.Close()
				r.Count()
			})
		}
		wg.Wait()
	}
}

// Reserve is called for all bytes before Read returns them, and its error ends the layer.
func TestReserve(t *testing.T) {
	plain := content(3 << 20)
	blob := gz(t, plain)
	full := errors.New("the disk would be full")
	for _, most := range []int{0, 1 << 20, 3 << 20} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			reserve := func(n int64) error {
				if asked += int(n); asked > most {
					return full
				}
				return nil
			}
			r := NewReader(t.Context(), bytesBlob(blob), expect(blob, plain), ReaderOptions{Reserve: reserve})
			got, given, err := make([]byte, 100<<10), 0, error(nil)
			for n := 0; err == nil; given += n {
				if n, err = r.Read(got); given+n > min(asked, most) {
					t.Fatalf("%d bytes were given of %d that were asked for", given+n, asked)
				}
			}
			if _, again := r.Read(got); again != err {
				t.Errorf("Read once more: %v", again)
			}
			if whole := most == len(plain); whole && (err != io.EOF || given != most) || !whole && err != full {
				t.Errorf("space for %d bytes: %d were given, then %v", most, given, err)
			}
			r.Close()
		})
	}
}
