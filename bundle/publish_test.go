package bundle

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// drafted makes a bundle of some text, which its list has the digest of.
func drafted(t *testing.T, name, text string, split int64) (*File, *List) {
	t.Helper()
	f := create(t, name, split)
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	return f, &List{Bundle: filepath.Base(name), Index: digest.FromString(text)}
}

// readList returns the list beside a bundle, nil if there is none.
func readList(t *testing.T, name string) *List {
	t.Helper()
	data, err := os.ReadFile(ListName(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var l List
	if err == nil {
		err = json.Unmarshal(data, &l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &l
}

// TestPublishTogether has two bundles of one name published at a time. Whatever is
// there afterwards is of one of them.
func TestPublishTogether(t *testing.T) {
	halfway = func() { time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond) }
	t.Cleanup(func() { halfway = nil })
	for _, split := range []int64{0, 5} {
		for range 30 {
			name := filepath.Join(t.TempDir(), "b.tar")
			var both sync.WaitGroup
			for _, text := range []string{"one one one one one", "two two two two two"} {
				f, list := drafted(t, name, text, split)
				both.Go(func() {
					if err := f.Publish(t.Context(), list); err != nil {
						t.Error(err)
					}
				})
			}
			both.Wait()
			var got []byte
			for n := 0; ; n++ {
				part := name
				if split > 0 {
					part = PartName(name, n+1)
				}
				data, err := os.ReadFile(part)
				if err != nil || split == 0 {
					got = append(got, data...)
					break
				}
				got = append(got, data...)
			}
			if l := readList(t, name); l == nil || l.Index != digest.FromBytes(got) {
				t.Fatalf("split %d: the list is not of %q", split, got)
			}
		}
	}
}

// TestPublishOver has a bundle over one of another form. Nothing of that stays.
func TestPublishOver(t *testing.T) {
	for _, tc := range []struct {
		before, after int64 // the size of parts
		list          bool  // the new one has a list
		want          string
	}{
		{0, 0, true, "b.tar b.tar.json"},
		{0, 0, false, "b.tar"},
		{0, 9, true, "b.tar.json b.tar.part001 b.tar.part002"},
		{4, 9, false, "b.tar.part001 b.tar.part002"},
		{4, 0, false, "b.tar"},
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, "b.tar")
		f, list := drafted(t, name, "the one before", tc.before)
		if err := f.Publish(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		f, list = drafted(t, name, "another one", tc.after)
		if !tc.list {
			list = nil
		}
		if err := f.Publish(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("parts of %d over parts of %d: %q, want %s", tc.after, tc.before, got, tc.want)
		}
	}
}

// TestPublishKeeps what is beside a bundle and is no list of one.
func TestPublishKeeps(t *testing.T) {
	name := filepath.Join(t.TempDir(), "b.tar")
	if err := os.WriteFile(ListName(name), []byte(`{"bundle":"of something else"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _ := drafted(t, name, "text", 0)
	if err := f.Publish(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if l := readList(t, name); l == nil || l.Bundle != "of something else" {
		t.Errorf("beside it: %+v", l)
	}
}

// TestPublishWaits for another process, and not for ever.
func TestPublishWaits(t *testing.T) {
	dir := t.TempDir()
	other, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(other.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "b.tar")
	f, list := drafted(t, name, "text", 0)
	done := make(chan error)
	go func() { done <- f.Publish(t.Context(), list) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has its name: %v", err)
	}
	other.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestCreateRefuses what a bundle cannot take the place of.
func TestCreateRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, fifo, "/dev/null", "/dev/stdout/x"} {
		if f, err := Create(name, FileOptions{}); err == nil {
			f.Close()
			t.Errorf("%s was taken", name)
		} else if name != "/dev/stdout/x" && (fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
