package progress

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is an output that remembers each Write.
type recorder struct {
	mu     sync.Mutex
	frames []string
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, string(p))
	return len(p), nil
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.frames, "")
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.frames)
}

// screen is a terminal of the kind that wraps its lines anew when its width
// changes. It knows the sequences that this package may use and fails the test
// at any other.
type screen struct {
	t        *testing.T
	mu       sync.Mutex
	w, h     int
	rows     []string // all rows ever, those that scrolled away included
	row, col int
	top      int // the first row that can be seen
	wraps    int // lines that were longer than the terminal is wide
}

func newScreen(t *testing.T, w, h int) *screen {
	return &screen{t: t, w: w, h: h, rows: []string{""}}
}

func (s *screen) width() int  { s.mu.Lock(); defer s.mu.Unlock(); return s.w }
func (s *screen) height() int { s.mu.Lock(); defer s.mu.Unlock(); return s.h }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\r':
			s.col = 0
		case c == '\n':
			s.down()
		case c == '\x1b':
			end := i + 2 + bytes.IndexFunc(p[i+2:], func(r rune) bool { return r >= '@' })
			s.sequence(string(p[i+1 : end+1]))
			i = end
		case c < ' ' || c > '~':
			s.t.Errorf("byte %#x reached the terminal", c)
		default:
			if s.col == s.w {
				s.wraps++
				s.down()
			}
			line := s.rows[s.row]
			line += strings.Repeat(" ", max(0, s.col+1-len(line)))
			s.rows[s.row] = line[:s.col] + string(c) + line[s.col+1:]
			s.col++
		}
	}
	return len(p), nil
}

func (s *screen) down() {
	s.row, s.col = s.row+1, 0
	if s.row == len(s.rows) {
		s.rows = append(s.rows, "")
	}
	s.top = max(s.top, s.row-s.h+1)
}

func (s *screen) sequence(seq string) {
	switch {
	case strings.HasSuffix(seq, "m"):
		line := s.rows[s.row] // a colour, in a line that is written to its end
		s.rows[s.row] = line[:min(s.col, len(line))] + "<" + seq + ">"
		s.col = len(s.rows[s.row])
	case seq == "[K":
		s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
	case seq == "[J":
		s.rows[s.row] = s.rows[s.row][:min(s.col, len(s.rows[s.row]))]
		s.rows = s.rows[:s.row+1]
	case strings.HasPrefix(seq, "[") && strings.HasSuffix(seq, "A"):
		n, err := strconv.Atoi(seq[1 : len(seq)-1])
		if err != nil {
			s.t.Errorf("sequence %q", seq)
		}
		s.row = max(s.row-n, s.top)
	default:
		s.t.Errorf("sequence %q", seq)
	}
}

// resize gives the terminal another size and wraps its rows anew.
func (s *screen) resize(w, h int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []string
	for i, line := range s.rows {
		for len(line) > w {
			rows = append(rows, line[:w])
			line = line[w:]
		}
		if i == s.row {
			s.row = len(rows)
		}
		rows = append(rows, line)
	}
	s.rows, s.w, s.h = rows, w, h
	s.top = max(0, s.row-h+1)
}

// String returns all that was ever shown and not erased.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.rows, "\n")
}

// inBubble runs a test of a display against a fake clock.
func inBubble(t *testing.T, o Options, f func(t *testing.T, d *Display)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := New(o)
		defer d.Close()
		f(t, d)
	})
}

// step goes on for a number of frames. For each, tasks get what comes at a pace
// in bytes a second, and then the frame is drawn.
func step(d time.Duration, pace int64, tasks ...*Task) {
	for range d / frameEvery {
		for _, t := range tasks {
			t.Add(pace * int64(frameEvery) / int64(time.Second))
		}
		time.Sleep(frameEvery)
		synctest.Wait()
	}
}

// digest returns a name like that of a layer, whose short form is 12 times c.
func digest(c string) string { return "sha256:" + strings.Repeat(c, 64) }

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

var _ io.Writer = (*screen)(nil)
