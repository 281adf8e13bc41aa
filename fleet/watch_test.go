package fleet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastpull/fastpull/pull"
	"github.com/fastpull/fastpull/registry"
)

// bench has a list that tests change, and notes when runs begin.
type bench struct {
	mu    sync.Mutex
	list  []string
	lerr  error // of the list
	err   error // of runs
	lost  bool  // the destination
	runs  []time.Duration
	lists []string // that runs had
	told  []error
	begun time.Time
}

func (b *bench) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *bench) watch(every time.Duration) *Watch {
	b.begun = time.Now()
	return &Watch{
		List: func(context.Context) (refs []registry.Reference, err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, name := range b.list {
				ref, err := registry.ParseReference(name)
				if err != nil {
					return nil, err
				}
				refs = append(refs, ref)
			}
			return refs, b.lerr
		},
		Run: func(_ context.Context, refs []registry.Reference) (*pull.Summary, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.runs = append(b.runs, time.Since(b.begun))
			sum := &pull.Summary{Destination: "here"}
			if b.lost {
				sum.Destination = ""
			}
			for _, ref := range refs {
				b.lists = append(b.lists, ref.String())
				res := pull.Result{Reference: ref.String(), Status: pull.Pulled}
				if b.err != nil {
					res.Status = pull.Failed
				}
				sum.Images = append(sum.Images, res)
			}
			return sum, b.err
		},
		Tell:  func(err error) { b.set(func() { b.told = append(b.told, err) }) },
		Every: every, State: NewState("v1"),
	}
}

// start runs the loop until the test ends it, and returns how that went.
func start(ctx context.Context, w *Watch) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- w.Loop(ctx) }()
	return ended
}

// TestWatchFollowsTheList has runs at the beginning, when the list is another one and has
// stayed so, and after the time between two runs.
func TestWatchFollowsTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &bench{list: []string{"h/a:1"}}
		w := b.watch(time.Hour)
		ended := start(ctx, w)
		time.Sleep(time.Minute + time.Second)
		b.set(func() { b.list = []string{"h/a:1", "h/b:1"} })
		time.Sleep(5 * time.Second) // seen once, at 65 s
		b.set(func() { b.list = []string{"h/a:1", "h/c:1"} })
		time.Sleep(time.Minute) // seen at 70 s, and again at 75 s
		if ok, why := w.State.Ready(); !ok || why != "2 images" {
			t.Errorf("ready: %v, %s", ok, why)
		}
		b.set(func() { b.list, b.lerr = nil, errors.New("gone") }) // no list is no empty list
		time.Sleep(5 * time.Second)                                // seen once, at 130 s
		b.set(func() { b.list, b.lerr = []string{"h/a:1", "h/c:1"}, nil })
		time.Sleep(time.Hour)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if want := []time.Duration{0, 75 * time.Second, time.Hour + 75*time.Second}; !slices.Equal(b.runs, want) {
			t.Errorf("runs began after %v, want %v", b.runs, want)
		}
		if want := []string{"h/a:1", "h/a:1", "h/c:1", "h/a:1", "h/c:1"}; !slices.Equal(b.lists, want) {
			t.Errorf("runs had %q, want %q", b.lists, want)
		}
	})
}

// TestWatchBrokenList reports a list that cannot be used any more, and tries again with pauses
// that grow. The host is not ready until the list is mended.
func TestWatchBrokenList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &bench{list: []string{"h/a:1"}}
		w := b.watch(0)
		var lines strings.Builder
		w.Report = Report{Out: &lines}
		ended := start(ctx, w)
		time.Sleep(time.Minute + time.Second)
		b.set(func() { b.list = []string{"h/a:2", "h/UPPER:1"} })
		time.Sleep(5 * time.Second) // seen once, at 65 s
		if ok, _ := w.State.Ready(); !ok {
			t.Error("not ready after one failure")
		}
		time.Sleep(5 * time.Second) // seen again, at 70 s
		b.set(func() {
			if len(b.told) != 1 || !strings.Contains(b.told[0].Error(), "UPPER") {
				t.Errorf("errors: %v", b.told)
			}
		})
		if ok, why := w.State.Ready(); ok || !strings.Contains(why, "UPPER") {
			t.Errorf("ready: %v, %s", ok, why)
		}
		time.Sleep(time.Hour)
		b.set(func() {
			if n := len(b.told); n < 12 || n > 20 {
				t.Errorf("%d errors in an hour", n)
			}
			b.list = []string{"h/a:1"}
		})
		time.Sleep(10 * time.Second)
		if ok, why := w.State.Ready(); !ok || len(b.runs) != 2 {
			t.Errorf("with the list of before: ready %v, %s; %d runs", ok, why, len(b.runs))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := strings.Count(lines.String(), `"result":"failed"`); n != len(b.told) {
			t.Errorf("%d failures reported, want %d", n, len(b.told))
		}
	})
}

// TestWatchTriesAgain has pauses that grow up to a bound after failures, that begin anew with
// another list, and end with a success.
func TestWatchTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &bench{list: []string{"h/a:1"}, err: errors.New("down")}
		w := b.watch(0)
		ended := start(ctx, w)
		time.Sleep(time.Hour)
		b.set(func() {
			for i := 1; i < len(b.runs); i++ {
				most := min(firstPause<<min(i-1, 10), longestPause)
				if pause := b.runs[i] - b.runs[i-1]; pause > most || pause < most*4/5 {
					t.Errorf("pause %d is %v, want %v or a fifth less", i, pause, most)
				}
			}
			if len(b.runs) < 12 || len(b.told) != len(b.runs) {
				t.Errorf("%d runs in an hour, and %d errors", len(b.runs), len(b.told))
			}
		})
		if ok, why := w.State.Ready(); ok || why != "down" {
			t.Errorf("ready: %v, %s", ok, why)
		}
		b.set(func() { b.list, b.runs = []string{"h/b:1"}, nil })
		time.Sleep(22 * time.Second) // the third run would begin after 24 s
		b.set(func() {
			if len(b.runs) != 2 || b.runs[1]-b.runs[0] > firstPause {
				t.Errorf("runs of another list after %v", b.runs)
			}
			b.err, b.runs = nil, nil
		})
		time.Sleep(24 * time.Hour)
		cancel()
		if err := <-ended; err != nil || len(b.runs) != 1 {
			t.Errorf("%v, %d runs after the failures", err, len(b.runs))
		}
		if ok, _ := w.State.Ready(); !ok {
			t.Error("not ready after a success")
		}
	})
}

// TestWatchEnds with a run that is interrupted, and where the destination is gone.
func TestWatchEnds(t *testing.T) {
	failure := errors.New("no socket")
	b := &bench{list: []string{"h/a:1"}, err: failure, lost: true}
	if err := b.watch(0).Loop(t.Context()); !errors.Is(err, failure) || len(b.told) > 0 {
		t.Errorf("without a destination: %v, %v", err, b.told)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b = &bench{list: []string{"h/a:1"}, err: context.Canceled}
	if err := b.watch(0).Loop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestReady keeps a host ready while the same list is looked at again, also if that fails, and
// not with another list.
func TestReady(t *testing.T) {
	a, err := registry.ParseReference("h/a:1")
	if err != nil {
		t.Fatal(err)
	}
	one, two := []registry.Reference{a}, []registry.Reference{a, a.WithTag("2")}
	s := NewState("v1")
	expect := func(when string, want bool, words string) {
		t.Helper()
		if ok, why := s.Ready(); ok != want || why != words {
			t.Errorf("%s: %v, %q, want %v, %q", when, ok, why, want, words)
		}
	}
	expect("at the beginning", false, "nothing was pulled yet")
	s.begin(one, true)
	expect("in the first run", false, "images are being pulled")
	s.end(one, NewLine(begun, summary(), nil, false))
	expect("after it", true, "1 image")
	s.begin(one, true)
	expect("in the next run", true, "1 image")
	s.end(one, NewLine(begun, summary(), errors.New("down\x1b"), false))
	expect("after it failed", true, "1 image")
	s.begin(two, true)
	expect("with another list", false, "images are being pulled")
	s.end(two, NewLine(begun, summary(), errors.New("down\x1b"), false))
	expect("which failed", false, `down\x1b`)
	s.begin(two, true)
	s.end(two, NewLine(begun, summary(), nil, false))
	expect("which is here", true, "2 images")
	s.begin(nil, false)
	expect("without a list", false, "images are being pulled")
}
