package decode

import (
	"io"

	"github.com/klauspost/compress/zstd"
)

// job is a sequence of whole frames that one goroutine decodes.
type job struct {
	in       []byte
	ends     []int // of the frames in in
	plainMax int   // the most that they decode to

	begun, done bool   // under frames.mu
	plain       []byte // set before done, as is bad
	bad         []byte // the frames from the first that is not valid
}

// decodeSlack is how many bytes a buffer has behind the plain bytes. With it the library copies
// matches by whole words, also in a frame whose header does not give its size.
const decodeSlack = maxBlockPlain + 64

func (j *job) cost() int { return cap(j.in) + j.size() }

// size returns the size of the buffer for the plain bytes. There are few sizes, so that
// buffers can be used again.
func (j *job) size() int {
	const step = 256 << 10
	return (j.plainMax + decodeSlack + step - 1) / step * step
}

// decode decodes the frames into all, and stops at the first that is not valid. The
// streaming decoder decodes that one from its beginning.
func (j *job) decode(d *zstd.Decoder, all []byte) {
	from := 0
	for _, end := range j.ends {
		part, err := d.DecodeAll(j.in[from:end], all[len(all):])
		if err != nil {
			j.bad = j.in[from:]
			break
		}
		all = append(all, part...) // in place, unless the frame needed a larger buffer
		from = end
	}
	j.plain = all
}

// untaken reads the frames of the jobs that were not taken, and then the rest of the stream.
type untaken struct {
	f   *frames
	cur []byte
}

func (u *untaken) Read(p []byte) (int, error) {
	for len(u.cur) == 0 {
		j := u.f.take()
		if j == nil {
			// The collector has ended, or the reader was closed.
			u.f.mu.Lock()
			rest, closed := u.f.rest, u.f.closed
			u.f.mu.Unlock()
			switch {
			case closed:
				return 0, errClosed
			case rest == nil:
				return 0, io.EOF
			}
			return rest.Read(p)
		}
		// A helper that decodes the job only reads these bytes.
		u.f.release(j)
		u.cur = j.in
	}
	n := copy(p, u.cur)
	u.cur = u.cur[n:]
	return n, nil
}
