// Package copying copies bytes in large pieces.
package copying

import (
	"io"
	"sync"
)

// piece is how many bytes are copied at a time.
const piece = 256 << 10

var buffers = sync.Pool{New: func() any { return new([piece]byte) }}

// Copy copies from r to w until the end of r, as [io.Copy] does, but always by Read and
// Write: a ReadFrom or WriteTo would choose small pieces of its own.
func Copy(w io.Writer, r io.Reader) (int64, error) {
	buf := buffers.Get().(*[piece]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, buf[:])
}
