package daemon

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

func TestFeed(t *testing.T) {
	data := make([]byte, 2*blocks*blockSize+77)
	rand.NewChaCha8([32]byte{2}).Read(data)
	for _, tc := range []struct {
		name string
		src  func(io.Reader) io.Reader
		size int
		err  error
	}{
		{"as it is", func(r io.Reader) io.Reader { return r }, len(data), nil},
		{"halves", iotest.HalfReader, len(data), nil},
		{"bytes", iotest.OneByteReader, blockSize + 3, nil},
		{"end with the last bytes", iotest.DataErrReader, len(data), nil},
		{"exactly one block", iotest.DataErrReader, blockSize, nil},
		{"nothing", func(r io.Reader) io.Reader { return r }, 0, nil},
		{"fails", func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(io.ErrUnexpectedEOF)) }, blockSize + 9, io.ErrUnexpectedEOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var failed error
			f := newFeed(tc.src(bytes.NewReader(data[:tc.size])), make(chan struct{}), func(err error) { failed = err })
			got, err := io.ReadAll(f)
			if !errors.Is(err, tc.err) || !errors.Is(failed, tc.err) {
				t.Errorf("error %v, told %v, want %v", err, failed, tc.err)
			}
			if !bytes.Equal(got, data[:tc.size]) {
				t.Errorf("%d bytes, not the %d of the source", len(got), tc.size)
			}
		})
	}
}

// A stopped feed lets its reader go though the source does not return, and
// waits for the source only so long.
func TestFeedStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newBlocked()
		stop := make(chan struct{})
		f := newFeed(struct{ io.Reader }{src}, stop, func(error) {}) // no Closer
		time.AfterFunc(time.Minute, func() { close(stop) })
		start := time.Now()
		if _, err := f.Read(make([]byte, 1)); err != errOver {
			t.Errorf("Read: %v", err)
		}
		if d := time.Since(start); d != time.Minute {
			t.Errorf("Read left after %v", d)
		}
		f.close(sourceGrace)
		if d := time.Since(start) - time.Minute; d != sourceGrace {
			t.Errorf("close took %v", d)
		}
		src.Close()
	})
}
