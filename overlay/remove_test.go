package overlay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/need"
)

// childRemove removes an image and dies at the given step of it.
func childRemove(args []string) error {
	published = func(step string) {
		if step == args[2] {
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	s, err := OpenToRemove(background, args[0])
	if err != nil {
		return err
	}
	_, err = s.Remove(background, args[1], RemoveOptions{})
	return err
}

// record gives an image names.
func record(t *testing.T, s *Store, img *image.Image, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := s.PutImage(t.Context(), img, repositoryOf(name), []string{name}); err != nil {
			t.Fatal(err)
		}
	}
}

// twoImages makes two images that share their first layer, with blobs.
func twoImages(t *testing.T, s *Store) (a, b *image.Image) {
	t.Helper()
	a = putChain(t, s, "shared", 3)
	own := tarOf("own", "of b")
	if _, err := put(s, a.Layers[0].ChainID, own); err != nil {
		t.Fatal(err)
	}
	b = imageOf(t, "b", a.Layers[0].DiffID, digest.FromBytes(own))
	for _, l := range slices.Concat(a.Layers, b.Layers[1:]) {
		if err := s.PutBlob(t.Context(), digest.FromString("blob of "+l.DiffID.String()), l.DiffID, "host/repo"); err != nil {
			t.Fatal(err)
		}
	}
	record(t, s, a, "a:1")
	record(t, s, b, "b:1")
	return a, b
}

// shape is what a store has, without what is random.
func shape(t *testing.T, s *Store) string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"image/overlay2/imagedb/content/sha256/*", "image/overlay2/imagedb/metadata/sha256/*",
		"image/overlay2/layerdb/sha256/*", "image/overlay2/distribution/*/sha256/*", "fastpull/pending/*"} {
		names, err := filepath.Glob(s.path(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			list = append(list, strings.TrimPrefix(n, s.dir))
		}
	}
	folders, _ := os.ReadDir(s.path("overlay2"))
	links, _ := os.ReadDir(s.path("overlay2/l"))
	data, err := os.ReadFile(s.path("image/overlay2/repositories.json"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(list, fmt.Sprintf("%d folders, %d links", len(folders)-1, len(links)), string(data)), "\n")
}

// TestRemoveCrash kills a process at every step of a removal, on a disk with space and on
// a full one. What is left are whole images, and what is neither goes with the next one
// that opens the store or prunes it.
func TestRemoveCrash(t *testing.T) {
	clean := openTest(t, t.TempDir())
	_, b := twoImages(t, clean)
	if _, err := clean.Remove(t.Context(), "a:1", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	want := shape(t, clean)
	if n := strings.Count(want, "layerdb/sha256/"); n != 2 {
		t.Fatalf("%d layers are left of b's two:\n%s", n, want)
	}
	type kill struct {
		step string
		full func(t *testing.T, dir string) // fills the disk; nil for one with space
	}
	kills := make(map[string]kill)
	for _, step := range []string{"delete: config", "delete: names", "delete: metadata", "remove: note", "remove: entry", "remove: files", "remove: link", "remove: done"} {
		kills[step] = kill{step, nil}
		kills[step+", no space"] = kill{step, fillBlocks}
		kills[step+", no inodes"] = kill{step, fillInodes}
	}
	for name, k := range kills {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if k.full != nil {
				dir = smallDisk(t)
			}
			s, err := Open(t.Context(), dir, Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			a, _ := twoImages(t, s)
			s.Close()
			if k.full != nil {
				k.full(t, dir)
			}
			c := start(t, "remove", dir, "a:1", k.step)
			c.cmd.Wait()
			if c.cmd.ProcessState.Success() || c.err.Len() > 0 {
				t.Fatalf("the child was not killed: %v %s", c.cmd.ProcessState, c.err.String())
			}
			list, err := s.Images()
			if err != nil {
				t.Error(err)
			}
			for _, img := range list {
				if have := s.Chain(img.Layers); len(have) != len(img.Layers) {
					t.Errorf("image %q has %d of %d layers", img.Names, len(have), len(img.Layers))
				}
			}
			if id, _ := s.ID("a:1"); id != "" {
				t.Error("the name is there after the first step")
			}
			if v, err := s.Verify(t.Context(), VerifyOptions{}); err != nil || len(v.Damages) > 0 {
				t.Errorf("verify: %+v %v", v, err)
			}
			p, err := Prune(t.Context(), dir, PruneOptions{Untagged: true})
			if err != nil {
				t.Fatal(err)
			}
			if k.full != nil {
				if err := os.RemoveAll(filepath.Join(dir, "filler")); err != nil {
					t.Fatal(err)
				}
			}
			if got := shape(t, s); got != want {
				t.Errorf("after prune (%+v) the store has\n%s\nwant\n%s", p, got, want)
			}
			// All of it can come back.
			s2 := openTest(t, dir)
			for i, l := range a.Layers[1:] {
				if _, err := put(s2, l.Parent, tarOf(fmt.Sprintf("shared-%d", i+2), fmt.Sprintf("layer %d of shared", i+2))); err != nil {
					t.Fatal(err)
				}
			}
			record(t, s2, a, "a:1")
			if have := s2.Chain(b.Layers); len(have) != 2 {
				t.Errorf("b has %d layers", len(have))
			}
		})
	}
}

// TestRemoveNames removes by names and IDs what docker rmi would.
func TestRemoveNames(t *testing.T) {
	at := "@" + digest.FromString("manifest").String()
	for _, tc := range []struct {
		names []string
		rm    string // ID stands for the image's
		force bool
		left  string
		fails bool
	}{
		{[]string{"r:1"}, "r:1", false, "", false},
		{[]string{"r:1", "r" + at}, "r:1", false, "", false},
		{[]string{"r:1", "r:2", "r" + at}, "r:1", false, "r:2 r" + at, false},
		{[]string{"r:1", "q:1", "r" + at, "q" + at}, "r:1", false, "q:1 q" + at, false},
		{[]string{"r:1", "r" + at}, "r" + at, false, "r:1", false},
		{[]string{"h:5000/r:1", "h:5000/r" + at}, "ID", false, "", false},
		{[]string{"r" + at}, "ID", false, "", false},
		{[]string{"r:1", "r:2"}, "ID", false, "r:1 r:2", true},
		{[]string{"r:1", "q" + at}, "ID", false, "q" + at + " r:1", true},
		{[]string{"r:1", "r:2", "q:1"}, "ID", true, "", false},
		{nil, "ID", false, "", false},
		{[]string{"r:1"}, "r:2", false, "r:1", true},
	} {
		t.Run(strings.Join(tc.names, " ")+" - "+tc.rm, func(t *testing.T) {
			s := openTest(t, t.TempDir())
			img := putChain(t, s, "x", 2)
			if len(tc.names) == 0 {
				if err := s.PutImage(t.Context(), img, "r", nil); err != nil {
					t.Fatal(err)
				}
			}
			record(t, s, img, tc.names...)
			name := tc.rm
			if name == "ID" {
				name = img.ID.Encoded()[:12]
			}
			r, err := s.Remove(t.Context(), name, RemoveOptions{Force: tc.force})
			if (err != nil) != tc.fails {
				t.Fatalf("Remove: %v", err)
			}
			st, err := s.stock()
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(st.refs(img.ID), " "); got != tc.left {
				t.Errorf("names left: %q, want %q (%+v)", got, tc.left, r)
			}
			layers := 0
			if tc.left != "" {
				layers = 2
			}
			if len(st.entries) != layers || len(st.images) != layers/2 {
				t.Errorf("%d images and %d layers are left", len(st.images), len(st.entries))
			}
		})
	}
}

// TestRemoveSpares has somebody need a layer of an image that is removed: a pull,
// Docker's containers and builder, a mount.
func TestRemoveSpares(t *testing.T) {
	write := func(t *testing.T, name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name    string
		need    func(t *testing.T, s *Store, a *image.Image)
		refused string // by rm without --force
		layers  int    // of a's three that stay after all
	}{
		{"nobody", func(*testing.T, *Store, *image.Image) {}, "", 1},
		{"a pull that found a layer", func(t *testing.T, s *Store, a *image.Image) {
			if err := openTest(t, s.dir).Use(t.Context(), a.Layers[1].ChainID); err != nil {
				t.Fatal(err)
			}
		}, "", 2},
		{"a layer that is being made on one", func(t *testing.T, s *Store, a *image.Image) {
			if _, _, err := begin(openTest(t, s.dir), a.Layers[2].ChainID, childTar); err != nil {
				t.Fatal(err)
			}
		}, "", 3},
		{"a container", func(t *testing.T, s *Store, a *image.Image) {
			write(t, s.path("containers/c0ffee/config.v2.json"), `{"Image":"`+a.ID.String()+`"}`)
			write(t, s.path("image/overlay2/layerdb/mounts/c0ffee/parent"), a.Layers[2].ChainID.String())
			write(t, s.path("image/overlay2/layerdb/mounts/c0ffee/mount-id"), "rw")
			write(t, s.path("image/overlay2/layerdb/mounts/c0ffee/init-id"), "rw-init")
			write(t, s.path("overlay2/rw/diff/x"), "x")
			write(t, s.path("overlay2/rw-init/diff/x"), "x")
		}, "container", 3},
		{"the builder", func(t *testing.T, s *Store, a *image.Image) {
			// Over the edge of what is read at a time.
			db := append(bytes.Repeat([]byte("x"), 1<<20+30), a.Layers[1].ChainID.String()...)
			write(t, s.path("buildkit/snapshots.db"), string(append(db, "snapshot-of-its-own"...)))
			write(t, s.path("overlay2/snapshot-of-its-own/diff/x"), "x")
		}, "", 2},
		{"an image that was built on it", func(t *testing.T, s *Store, a *image.Image) {
			child := imageOf(t, "child", a.Layers[0].DiffID)
			record(t, s, child, "child:1")
			write(t, s.path("image/overlay2/imagedb/metadata/sha256", child.ID.Encoded(), "parent"), a.ID.String())
		}, "built on it", 3},
		{"a mount", func(t *testing.T, s *Store, a *image.Image) {
			at := t.TempDir()
			if err := s.Mount(a, at); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { Unmount(t.Context(), at) })
		}, "mounted at", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "a [pattern]") // for filepath.Glob
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			s := openTest(t, dir)
			a, b := twoImages(t, s)
			tc.need(t, s, a)
			_, err := s.Remove(t.Context(), "a:1", RemoveOptions{})
			if tc.refused == "" && err != nil || tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused) || fault.HintOf(err) == "") {
				t.Fatalf("Remove: %v", err)
			}
			if tc.name == "a container" {
				if r, err := s.Remove(t.Context(), "a:1", RemoveOptions{Force: true}); err != nil || len(r.Deleted) != 1 || len(r.Layers) != 0 {
					t.Errorf("with force: %+v %v", r, err)
				}
			}
			if _, err := Prune(t.Context(), s.dir, PruneOptions{Untagged: true}); err != nil {
				t.Fatal(err)
			}
			if have := len(s.Chain(a.Layers)); have != tc.layers {
				t.Errorf("%d of a's layers are left, want %d", have, tc.layers)
			}
			if have := len(s.Chain(b.Layers)); have != 2 {
				t.Errorf("%d of b's layers are left", have)
			}
			for _, name := range []string{"rw/diff/x", "rw-init/diff/x", "snapshot-of-its-own/diff/x"} {
				made := strings.Contains(tc.name, "container") && name[0] == 'r' || strings.Contains(tc.name, "builder") && name[0] == 's'
				if _, err := os.Stat(s.path("overlay2", name)); made && err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// childLists has the lists until its input ends.
func childLists(args []string) error {
	s, err := Open(background, args[0], Options{NoSync: true})
	if err != nil {
		return err
	}
	defer s.Close()
	unlock, err := s.lockLists(background, nil)
	if err != nil {
		return err
	}
	defer unlock()
	fmt.Println("has them")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// TestRemoveWaits has another process keep the lists: it is waited for, which is
// said, until the user interrupts it or that process has been silent for too long.
func TestRemoveWaits(t *testing.T) {
	need.Time(t, "it waits for locks")
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "w", 1)
	record(t, s, img, "w:1")
	c := start(t, "lists", s.dir)
	c.line(t)
	ctx, cancel := context.WithCancel(t.Context())
	said := 0
	_, err := s.Remove(ctx, "w:1", RemoveOptions{Waiting: func() { said++; cancel() }})
	if !errors.Is(err, context.Canceled) || said != 1 {
		t.Errorf("interrupted: %v, said %d times", err, said)
	}
	before := beatLost
	beatLost = 1500 * time.Millisecond
	defer func() { beatLost = before }()
	c.cmd.Process.Signal(unix.SIGSTOP)
	begun := time.Now()
	_, err = Prune(t.Context(), s.dir, PruneOptions{})
	if err == nil || !strings.Contains(err.Error(), "no sign of life") || time.Since(begun) >= before {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
	c.cmd.Process.Signal(unix.SIGCONT)
	c.stop(t)
	if _, err := s.Remove(t.Context(), "w:1", RemoveOptions{}); err != nil {
		t.Error(err)
	}
}
