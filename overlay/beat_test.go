package overlay

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// A process that has a layer's lock and stands still is not waited for for
// ever; one that shows that it lives is.
func TestStoppedLockOwner(t *testing.T) {
	need.Time(t, "a process that has stopped")
	before := beatLost
	beatLost = 3 * time.Second
	t.Cleanup(func() { beatLost = before })

	dir := t.TempDir()
	holder, err := Open(t.Context(), dir, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	// As if it were stopped: it does not touch its folder any more.
	close(holder.stop)
	holder.beats.Wait()
	holder.stop = nil

	waiter, err := Open(t.Context(), dir, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer waiter.Close()
	const at = 1 << 40
	if err := holder.locks.lock(t.Context(), at, nil, holder.pulse()); err != nil {
		t.Fatal(err)
	}

	start := time.Now()
	err = waiter.locks.lock(t.Context(), at, nil, waiter.pulse())
	if fault.HintOf(err) == "" || !strings.Contains(err.Error(), "sign of life") || time.Since(start) < beatLost {
		t.Fatalf("waiting for a holder that stands still ended after %s with %v", time.Since(start), err)
	}

	// It goes on: the waiter is patient again, and gets the lock in the end.
	got := make(chan error, 1)
	go func() { got <- waiter.locks.lock(t.Context(), at, nil, waiter.pulse()) }()
	for range 5 {
		now := time.Now()
		if err := os.Chtimes(holder.run.Path, now, now); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-got:
			t.Fatalf("the wait for a holder that lives ended: %v", err)
		case <-time.After(beatLost / 3):
		}
	}
	holder.locks.unlock(at)
	if err := <-got; err != nil {
		t.Fatal(errors.Join(errors.New("the lock was free"), err))
	}
}

// TestRemoverLives has a removal keep the lists for long before it writes anything. A process that
// waits for them sees that it lives.
func TestRemoverLives(t *testing.T) {
	need.Time(t, "it waits for locks")
	every, lost := beatEvery, beatLost
	beatEvery, beatLost = 20*time.Millisecond, 3*time.Second
	t.Cleanup(func() { beatEvery, beatLost = every, lost })

	waiter := openTest(t, t.TempDir())
	remover, err := OpenToRemove(t.Context(), waiter.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer remover.Close()
	unlock, err := remover.lockLists(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	patient := errors.New("it has waited long enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*beatLost, patient)
	defer cancel()
	if _, err := waiter.lockLists(ctx, nil); !errors.Is(err, patient) {
		t.Errorf("the wait for a removal ended with %v", err)
	}
}
