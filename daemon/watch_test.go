package daemon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/system"

	"github.com/fastpull/fastpull/fault"
)

// slow is a source that gives a little, with a pause before each piece.
type slow struct {
	pieces int
	pause  time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if s.pieces == 0 {
		return 0, io.EOF
	}
	s.pieces--
	time.Sleep(s.pause)
	return min(len(p), blockSize), nil
}

func seconds(from, to, step int) (ds []time.Duration) {
	for s := from; s <= to; s += step {
		ds = append(ds, time.Duration(s)*time.Second)
	}
	return ds
}

// The clock of these tests is synctest's: an hour takes no time, and is exact.
func TestStall(t *testing.T) {
	containerd := system.Info{DriverStatus: [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}}
	for _, tc := range []struct {
		name    string
		info    system.Info
		timeout time.Duration
		load    func(w http.ResponseWriter, r *http.Request, release <-chan struct{})
		src     io.Reader
		err     string // "" for none
		after   time.Duration
		told    []time.Duration
	}{
		{
			name: "while taking",
			load: func(w http.ResponseWriter, r *http.Request, release <-chan struct{}) {
				io.CopyN(io.Discard, r.Body, 1<<20)
				<-release
			},
			src:   zeros{},
			err:   "stopped taking bytes",
			after: 10 * time.Minute,
			told:  seconds(30, 570, 30),
		}, {
			name: "before it takes anything, with a timeout of the user's",
			load: func(w http.ResponseWriter, r *http.Request, release <-chan struct{}) {
				<-release
			},
			timeout: 45 * time.Second,
			src:     zeros{},
			err:     "stopped taking bytes",
			after:   45 * time.Second,
			told:    seconds(30, 30, 30),
		}, {
			name: "after it took all",
			load: func(w http.ResponseWriter, r *http.Request, release <-chan struct{}) {
				io.Copy(io.Discard, r.Body)
				<-release
			},
			timeout: time.Minute,
			src:     io.LimitReader(zeros{}, 1<<20),
			err:     "since it took all 1048576 bytes",
			after:   time.Minute,
			told:    seconds(30, 30, 30),
		}, {
			name: "while unpacking",
			load: func(w http.ResponseWriter, r *http.Request, release <-chan struct{}) {
				io.Copy(io.Discard, r.Body)
				for i := range 5 { // signs of life, if rare ones
					time.Sleep(50 * time.Second)
					say(w, `{"status":"Loading layer","id":"1a2b3c4d5e6f","progressDetail":{"current":%d,"total":9}}`, i)
				}
				<-release
			},
			timeout: time.Minute,
			src:     io.LimitReader(zeros{}, 1<<20),
			err:     "no sign of life for 1m0s while it unpacks layer 1a2b3c4d5e6f, at 4 of 9 bytes",
			after:   5*50*time.Second + time.Minute,
			told:    slices.Repeat(seconds(30, 30, 30), 6),
		}, {
			name: "a source that is slow is no stall",
			load: func(w http.ResponseWriter, r *http.Request, release <-chan struct{}) {
				io.Copy(io.Discard, r.Body)
			},
			src:   &slow{pieces: 3, pause: 5 * time.Hour},
			after: 15 * time.Hour,
		}, {
			name: "an Engine that is slow is no stall",
			load: func(w http.ResponseWriter, r *http.Request, release <-chan struct{}) {
				for {
					time.Sleep(25 * time.Second)
					if _, err := io.CopyN(io.Discard, r.Body, 256<<10); err != nil {
						return
					}
				}
			},
			timeout: time.Minute,
			src:     io.LimitReader(zeros{}, 10<<20),
			after:   41 * 25 * time.Second,
		}, {
			name: "containerd's store unpacks in silence",
			info: containerd,
			load: func(w http.ResponseWriter, r *http.Request, release <-chan struct{}) {
				io.Copy(io.Discard, r.Body)
				time.Sleep(3530 * time.Second)
				say(w, `{"stream":"Loaded image: x"}`)
			},
			src:   io.LimitReader(zeros{}, 1<<20),
			after: 3530 * time.Second,
			told:  seconds(30, 3510, 30),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				e, stop := pipeFake(t, &fake{info: tc.info, load: func(w http.ResponseWriter, r *http.Request) {
					tc.load(w, r, release)
				}}, Options{StallTimeout: tc.timeout})
				var told []time.Duration
				start := time.Now()
				err := e.Load(t.Context(), tc.src, Watch{Stalled: func(d time.Duration) { told = append(told, d) }})
				if d := time.Since(start); d != tc.after {
					t.Errorf("took %v, want %v", d, tc.after)
				}
				switch {
				case tc.err == "" && err != nil:
					t.Error(err)
				case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err) || fault.HintOf(err) == ""):
					t.Errorf("got %v with hint %q, want %q", err, fault.HintOf(err), tc.err)
				}
				if !slices.Equal(told, tc.told) {
					t.Errorf("told of %v, want %v", told, tc.told)
				}
				close(release)
				stop()
			})
		})
	}
}

// The bubble would not end if the load left a goroutine behind.
func TestLoadCancel(t *testing.T) {
	stuck := errors.New("the user has other plans")
	for _, tc := range []struct {
		name string
		load func(w http.ResponseWriter, r *http.Request)
		src  func() io.Reader
	}{
		{"while the Engine takes nothing", func(w http.ResponseWriter, r *http.Request) {}, func() io.Reader { return zeros{} }},
		{"while it unpacks", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			say(w, `{"status":"Loading layer","id":"x","progressDetail":{"current":1,"total":2}}`)
		}, func() io.Reader { return strings.NewReader("tar") }},
		{"while the source gives nothing", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
		}, func() io.Reader { return newBlocked() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				e, stop := pipeFake(t, &fake{load: func(w http.ResponseWriter, r *http.Request) {
					tc.load(w, r)
					<-release
				}}, Options{})
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(3*time.Second, func() { cancel(stuck) })
				start := time.Now()
				err := e.Load(ctx, tc.src(), Watch{})
				if !errors.Is(err, stuck) || !strings.Contains(err.Error(), e.String()) {
					t.Errorf("got %v", err)
				}
				if d := time.Since(start) - 3*time.Second; d != 0 {
					t.Errorf("left %v after the cancel", d)
				}
				close(release)
				stop()
			})
		})
	}
}

// With a source that can be neither closed nor cancelled the load still ends
// in time, and its callbacks with it.
func TestLoadCancelStubbornSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newBlocked()
		e, stop := pipeFake(t, &fake{load: func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
		}}, Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		over := false
		err := e.Load(ctx, struct{ io.Reader }{src}, Watch{Sent: func(int64) {
			if over {
				t.Error("told after the end")
			}
		}})
		over = true
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d != time.Minute+sourceGrace {
			t.Errorf("took %v", d)
		}
		src.Close()
		stop()
	})
}
