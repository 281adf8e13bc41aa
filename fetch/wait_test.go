package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// coming is a blob on its way into a file.
type coming struct {
	Blob
	came chan struct{}
	here atomic.Int64
	size int64
}

func (c *coming) Came() <-chan struct{}    { return c.came }
func (c *coming) Whole() (n int64, _ bool) { n = c.here.Load(); return n, n == c.size }

// TestAwait: a blob comes while others are written, without a slot as soon as it is
// there, and every byte of it is told of once.
func TestAwait(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	turn := make(chan struct{})
	var told, released atomic.Int64
	task := (*progress.Display)(nil).Task("layer", 100)
	begin := func(ctx context.Context, b *coming) (*counter, chan error) {
		told.Store(0)
		released.Store(0)
		a := &counter{report: func(n int64) { told.Add(n) }}
		done := make(chan error, 1)
		go func() { done <- await(ctx, b, turn, a, task, func() { released.Add(1) }) }()
		return a, done
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for !ok() {
			if ctx.Err() != nil {
				t.Fatal(what)
			}
			time.Sleep(time.Millisecond)
		}
	}

	b := &coming{came: make(chan struct{}), size: 100}
	a, done := begin(ctx, b)
	b.here.Store(60)
	until("60 bytes are not told of", func() bool { return told.Load() == 60 })
	if released.Load() != 0 {
		t.Error("the slot is given back while bytes come")
	}
	b.here.Store(100)
	close(b.came)
	until("the slot is not given back", func() bool { return released.Load() == 1 })
	select {
	case err := <-done:
		t.Fatalf("its turn has not come: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(turn)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for range 4 {
		a.read(30) // more than the 100 that were told of
	}
	if n := told.Load(); n != 120 {
		t.Errorf("%d bytes of 120 were told of", n)
	}

	// Its turn has come before.
	if _, done := begin(ctx, &coming{came: make(chan struct{}), size: 100}); <-done != nil {
		t.Error("it waits for a turn that has come")
	}

	turn = make(chan struct{})
	gone, end := context.WithCancelCause(ctx)
	_, done = begin(gone, &coming{came: make(chan struct{}), size: 100})
	why := errors.New("stopped")
	end(why)
	if err := <-done; err != why {
		t.Errorf("stopped: %v", err)
	}

	// The reader reports bytes that are missing, and must not wait for them.
	broken := &coming{came: make(chan struct{}), size: 100}
	close(broken.came)
	if _, done := begin(ctx, broken); <-done != nil || released.Load() != 0 {
		t.Error("it waits with a blob that does not come")
	}
	if _, done := begin(ctx, &coming{}); <-done != nil {
		t.Error("it waits with a blob that nobody keeps")
	}
}

// inFile is a source whose blob has been downloaded into its file.
type inFile struct{ blob []byte }

func (inFile) Resumable(int64) bool { return true }

func (s inFile) Download(context.Context, registry.Reference, ocispec.Descriptor, registry.Target, func()) (Blob, error) {
	return inFileBlob{&scriptedBlob{r: bytes.NewReader(s.blob)}, int64(len(s.blob))}, nil
}

type inFileBlob struct {
	*scriptedBlob
	size int64
}

func (b inFileBlob) Came() <-chan struct{} {
	came := make(chan struct{})
	close(came)
	return came
}
func (b inFileBlob) Whole() (int64, bool) { return b.size, true }

// TestPhaseAfterTurn has a layer that has been downloaded wait for its turn. Afterwards it is being
// extracted: nothing is downloaded any more.
func TestPhaseAfterTurn(t *testing.T) {
	l, blob, _ := sample(t)
	f, _, q := start(t, l)
	f.Source = inFile{blob}
	var out strings.Builder
	display := progress.New(progress.Options{Mode: progress.JSON, Out: &out})
	q.Task = display.Task("layer", l.Blob.Size)
	turn := make(chan struct{})
	q.Turn = turn
	time.AfterFunc(50*time.Millisecond, func() { close(turn) })
	if _, err := f.Plain(t.Context(), q, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	q.Task.Phase(progress.Done)
	display.Close()
	_, rest, waited := strings.Cut(out.String(), `"doing":"for its turn"`)
	if !waited || strings.Contains(rest, "downloading") || !strings.Contains(rest, "extracting") {
		t.Errorf("phases:\n%s", out.String())
	}
}
