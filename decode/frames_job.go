package decode

import (
	"io"

	"github.com/klauspost/compress/zstd"
)

// job is a row of whole frames.
type job struct {
	in   []byte
	ends []int // of the frames in in
	room int   // the most that they decode to

	begun, done bool   // under frames.mu
	plain       []byte // set before done, as is bad
	bad         []byte // from the first frame on that is not good
}

// roomBehind lets the library write matches by whole words; without it, it takes a
// slower way where a frame does not tell its size.
const roomBehind = maxBlockPlain + 64

func (j *job) cost() int { return cap(j.in) + j.size() }

// size is that of the buffer for what j decodes to: one of a few, so that they can be
// used again.
func (j *job) size() int {
	const step = 256 << 10
	return (j.room + roomBehind + step - 1) / step * step
}

// decode decodes frame by frame, each of which finds its room, and stops at one that
// is not good. What came of that one does not count: the streaming decoder gives it.
func (j *job) decode(d *zstd.Decoder, all []byte) {
	from := 0
	for _, end := range j.ends {
		part, err := d.DecodeAll(j.in[from:end], all[len(all):])
		if err != nil {
			j.bad = j.in[from:]
			break
		}
		all = append(all, part...) // onto itself, but for a frame that moved
		from = end
	}
	j.plain = all
}

// untaken reads the bytes of the jobs that nobody has taken, and then the rest.
type untaken struct {
	f   *frames
	cur []byte
}

func (u *untaken) Read(p []byte) (int, error) {
	for len(u.cur) == 0 {
		j := u.f.take()
		if j == nil {
			// The collector is done, or should be.
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
		// Whoever decodes it does not change it.
		u.f.release(j)
		u.cur = j.in
	}
	n := copy(p, u.cur)
	u.cur = u.cur[n:]
	return n, nil
}
