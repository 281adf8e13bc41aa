package containerdapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/fakecontainerd"
	"github.com/fastpull/fastpull/internal/testkit"
)

func digestOf(text string) digest.Digest { return digest.FromString(text) }

// write writes a blob, whose bytes have to be those of the digest.
func write(t *testing.T, c *Client, text string) {
	t.Helper()
	w, err := c.WriteBlob(t.Context(), "ref", digestOf(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(digestOf(text), map[string]string{"label": "1"}); err != nil {
		t.Fatal(err)
	}
}

// TestBlob writes a blob of several messages, labels it, and reads it.
func TestBlob(t *testing.T) {
	c := dial(t, fakecontainerd.Start(t, testkit.SocketDir(t)))
	text := strings.Repeat("0123456789", 120_000)
	d := digestOf(text)
	if _, err := c.StatBlob(t.Context(), d); !errdefs.IsNotFound(err) {
		t.Errorf("before: %v", err)
	}
	if _, err := c.ReadBlob(t.Context(), d, 1<<30); !errdefs.IsNotFound(err) {
		t.Errorf("before: %v", err)
	}
	write(t, c, text)
	if _, err := c.WriteBlob(t.Context(), "other", d, 0); !errdefs.IsAlreadyExists(err) {
		t.Errorf("the second time: %v", err)
	}
	if err := c.LabelBlob(t.Context(), d, map[string]string{"more": "2"}); err != nil {
		t.Error(err)
	}
	if b, err := c.StatBlob(t.Context(), d); err != nil || b.Size != int64(len(text)) || b.Labels["label"] != "1" || b.Labels["more"] != "2" {
		t.Errorf("%+v, %v", b, err)
	}
	if got, err := c.ReadBlob(t.Context(), d, int64(len(text))); err != nil || string(got) != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := c.ReadBlob(t.Context(), d, int64(len(text))-1); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("over the limit: %v", err)
	}
	r, err := c.OpenBlob(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, []byte(text)); err != nil {
		t.Error(err)
	}
}

// TestResume: a writer goes on with what an earlier one has left, or begins anew.
func TestResume(t *testing.T) {
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	c := dial(t, s)
	text := strings.Repeat("resumed ", 100)
	for _, left := range []string{"", text[:100], text, strings.Repeat("x", 300)} {
		s.SetPart("ref", []byte(left))
		w, err := c.WriteBlob(t.Context(), "ref", digestOf(text), int64(len(text)))
		if err != nil || w.Offset() != int64(len(left)) {
			t.Fatalf("offset %d, %v", w.Offset(), err)
		}
		if !strings.HasPrefix(text, left) {
			if err := w.Commit(digestOf(text), nil); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("damaged: %v", err)
			}
			if err := errors.Join(c.AbortWrite(t.Context(), "ref"), c.AbortWrite(t.Context(), "ref")); err != nil {
				t.Error(err)
			}
			continue
		}
		if err := w.Restart(); err != nil || w.Offset() != 0 {
			t.Errorf("offset %d after a restart, %v", w.Offset(), err)
		}
		if n, err := w.ReadFrom(strings.NewReader(text[:100])); err != nil || n != 100 || w.Offset() != 100 {
			t.Errorf("%d bytes, offset %d, %v", n, w.Offset(), err)
		}
		if err := w.Close(); err != nil || w.Close() != nil {
			t.Error(err)
		}
		if got := string(s.Part("ref")); got != text[:100] {
			t.Errorf("%d bytes are left", len(got))
		}
	}
	write(t, c, text)
}

// TestOneWriter: a ref has one writer, and the next one can have it when Close returns.
func TestOneWriter(t *testing.T) {
	c := dial(t, fakecontainerd.Start(t, testkit.SocketDir(t)))
	for i := range 20 {
		d := digestOf(fmt.Sprint(i))
		w, err := c.WriteBlob(t.Context(), "ref", d, 0)
		if err != nil {
			t.Fatalf("writer %d: %v", i, err)
		}
		if _, err := c.WriteBlob(t.Context(), "ref", d, 0); !errdefs.IsUnavailable(err) {
			t.Errorf("a second writer: %v", err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestReadFromFails: the error of the source is returned, and what came before it was
// written.
func TestReadFromFails(t *testing.T) {
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	c := dial(t, s)
	w, err := c.WriteBlob(t.Context(), "ref", digestOf("whole"), 5)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	broken := errors.New("broken")
	if n, err := w.ReadFrom(io.MultiReader(strings.NewReader("wh"), iotest.ErrReader(broken))); !errors.Is(err, broken) || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	if got := s.Part("ref"); !bytes.Equal(got, []byte("wh")) {
		t.Errorf("written: %q", got)
	}
}

// TestStall: a containerd that does nothing is not waited for. A source may take its time.
func TestStall(t *testing.T) {
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	c := dial(t, s)
	c.stall = time.Second
	text := "slow"
	w, err := c.WriteBlob(t.Context(), "slow", digestOf(text), 4)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * c.stall / 2)
	if _, err := w.ReadFrom(strings.NewReader(text)); err != nil {
		t.Errorf("a slow source: %v", err)
	}
	if err := w.Commit(digestOf(text), nil); err != nil {
		t.Error(err)
	}

	hung := fakecontainerd.Start(t, testkit.SocketDir(t))
	hung.Silent = map[string]bool{"Write": true, "Read": true, "Info": true}
	c = dial(t, hung)
	c.stall = 200 * time.Millisecond
	if w, err = c.WriteBlob(t.Context(), "hung", digestOf(text), 4); err != nil {
		t.Fatal(err)
	}
	_, err = w.ReadFrom(strings.NewReader(text))
	if err == nil || !strings.Contains(err.Error(), "has done nothing for") {
		t.Errorf("a write: %v", err)
	}
	w.Close()
	r, err := c.OpenBlob(t.Context(), digestOf(text))
	if err == nil {
		_, err = io.ReadAll(r)
		r.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "has done nothing for") {
		t.Errorf("a read: %v", err)
	}
	because := errors.New("because")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(because) })
	if _, err := c.StatBlob(ctx, digestOf(text)); !errors.Is(err, because) {
		t.Errorf("cancelled: %v", err)
	}
}
