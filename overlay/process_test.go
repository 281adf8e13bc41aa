package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/image"
)

// The layer that children make, on whatever parent.
var childTar = tarOf("child", "made by a child")

// childCommit commits a layer on a parent and dies at the given step of it, or
// pauses if so told.
func childCommit(args []string) error {
	dir, parent, at := args[0], digest.Digest(args[1]), args[2]
	published = func(step string) {
		if "pause at "+step == at {
			fmt.Println("paused")
			bufio.NewReader(os.Stdin).ReadString('\n')
		}
		if step == at {
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	s, err := Open(background, dir, Options{NoSync: true})
	if err != nil {
		return err
	}
	st, size, err := begin(s, parent, childTar)
	if err != nil {
		return err
	}
	if at == "before" {
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	return st.Commit(background, size)
}

// childLock has a layer in its hands. It commits it when told to, and gives it
// up when its input ends.
func childLock(args []string) error {
	s, err := Open(background, args[0], Options{NoSync: true})
	if err != nil {
		return err
	}
	defer s.Close()
	st, size, err := begin(s, "", childTar)
	if err != nil {
		return err
	}
	fmt.Println("holding")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err == io.EOF {
		return st.Abort()
	}
	if line == "commit\n" {
		err = st.Commit(background, size)
		fmt.Println("committed")
	}
	return err
}

// childName gives an image names of its own, one after the other.
func childName(args []string) error {
	s, err := Open(background, args[0], Options{NoSync: true})
	if err != nil {
		return err
	}
	defer s.Close()
	img, err := s.Image(digest.Digest(args[1]))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	for i := range n {
		if err := s.PutImage(background, img.Image, "repo", []string{fmt.Sprintf("repo:%s-%d", args[2], i)}); err != nil {
			return err
		}
	}
	return nil
}

// childFlock holds a lock as bolt does on its database.
func childFlock(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	fmt.Println("locked")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// TestCrash kills a process at every step of a commit. Whatever the step, the
// next Open makes the store what it was, or what it should have become.
func TestCrash(t *testing.T) {
	for _, step := range []string{"before", "note", "files", "link", "aside", "entry"} {
		for _, onParent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, parent %v", step, onParent), func(t *testing.T) {
				s := openTest(t, t.TempDir())
				img := putChain(t, s, "old", 2)
				parent := digest.Digest("")
				if onParent {
					parent = img.Layers[1].ChainID
				}
				before := visible(t, s)
				c := start(t, "commit", s.dir, parent.String(), step)
				c.cmd.Wait()
				if c.cmd.ProcessState.Success() || c.err.Len() > 0 {
					t.Fatalf("the child was not killed: %v %s", c.cmd.ProcessState, c.err.String())
				}
				chain := image.ChainID(parent, digest.FromBytes(childTar))
				_, err := s.Layer(chain)
				if whole := err == nil; whole != (step == "entry") {
					t.Errorf("the layer is visible: %v", whole)
				}

				s2 := openTest(t, s.dir) // sweeps
				idle(t, s2)
				if got := tree(t, s.path("fastpull/run")); len(got) != 3 {
					t.Errorf("runs: %q, want those of the two stores that are open", got[1:])
				}
				after := strings.Split(visible(t, s2), "\n")
				// That the parent has a child was written down first, and is harmless.
				after = slices.DeleteFunc(after, func(l string) bool { return strings.HasSuffix(l, "/committed") && !strings.Contains(before, l) })
				if step != "entry" && strings.Join(after, "\n") != before {
					t.Errorf("after the sweep:\n%s\nbefore:\n%s", strings.Join(after, "\n"), before)
				}
				if step == "entry" {
					if _, err := put(s2, parent, childTar); !errors.Is(err, ErrExists) {
						t.Errorf("the layer that was visible is not there: %v", err)
					}
				} else if _, err := put(s2, parent, childTar); err != nil {
					t.Errorf("make the layer after the crash: %v", err)
				}
				if have := s2.Chain(img.Layers); len(have) != 2 {
					t.Errorf("%d layers of the old image are there", len(have))
				}
			})
		}
	}
}

// TestSweepSparesTheLiving opens a store while another process is at work in it,
// and after that was killed.
func TestSweepSparesTheLiving(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	c := start(t, "hold", dir)
	c.line(t)
	before := tree(t, s.path("fastpull/run"))
	openTest(t, dir).Close()
	if after := tree(t, s.path("fastpull/run")); !slices.Equal(before, after) {
		t.Errorf("the living process has %q, had %q", after, before)
	}
	fmt.Fprintln(c.in, "commit")
	c.line(t)
	c.stop(t)
	if _, err := s.Layer(digest.FromBytes(childTar)); err != nil {
		t.Error(err)
	}

	dir = t.TempDir()
	c = start(t, "hold", dir)
	c.line(t)
	c.kill()
	s = openTest(t, dir)
	if got := tree(t, s.path("fastpull/run")); len(got) != 2 {
		t.Errorf("after the kill: %q, want one run", got[1:])
	}
}

// TestSweepSparesCommits opens a store while another process has moved a layer's
// files to their place, and not yet said whose they are.
func TestSweepSparesCommits(t *testing.T) {
	for _, step := range []string{"note", "files", "link"} {
		dir := t.TempDir()
		c := start(t, "commit", dir, "", "pause at "+step)
		c.line(t)
		s := openTest(t, dir)
		fmt.Fprintln(c.in, "go on")
		c.stop(t)
		l, err := s.Layer(digest.FromBytes(childTar))
		if err != nil {
			t.Fatalf("after %s: %v", step, err)
		}
		short := read(t, s.path("overlay2", l.CacheID, "link"))
		if got := read(t, s.path("overlay2/l", short), "child"); got != "made by a child" {
			t.Errorf("after %s the file has %q", step, got)
		}
	}
}

// waitLock begins the layer that a child has, and tells when it waits for it.
func waitLock(ctx context.Context, s *Store) (waiting chan struct{}, result chan error) {
	waiting, result = make(chan struct{}), make(chan error, 1)
	chain := digest.FromBytes(childTar)
	go func() {
		st, err := s.Begin(ctx, chain, "", chain, func() { close(waiting) })
		if err == nil {
			err = st.Abort()
		}
		result <- err
	}()
	return waiting, result
}

func TestLocks(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(t *testing.T, c *child, cancel context.CancelFunc)
		want error
	}{
		{"committed", func(t *testing.T, c *child, _ context.CancelFunc) { fmt.Fprintln(c.in, "commit") }, ErrExists},
		{"given up", func(t *testing.T, c *child, _ context.CancelFunc) { c.stop(t) }, nil},
		{"killed", func(t *testing.T, c *child, _ context.CancelFunc) { c.kill() }, nil},
		{"cancelled", func(t *testing.T, _ *child, cancel context.CancelFunc) { cancel() }, context.Canceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openTest(t, dir)
			c := start(t, "hold", dir)
			c.line(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			waiting, result := waitLock(ctx, s)
			<-waiting
			// Nobody waits for another layer.
			if _, err := put(s, "", tarOf("other", "x")); err != nil {
				t.Errorf("another layer meanwhile: %v", err)
			}
			begun := time.Now()
			tc.end(t, c, cancel)
			if err := <-result; !errors.Is(err, tc.want) {
				t.Errorf("Begin: %v, want %v", err, tc.want)
			}
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("Begin took %v to notice", took)
			}
		})
	}
}

// Two stores of one process have locks like two processes.
func TestLocksInOneProcess(t *testing.T) {
	dir := t.TempDir()
	s1, s2 := openTest(t, dir), openTest(t, dir)
	st, size, err := begin(s1, "", childTar)
	if err != nil {
		t.Fatal(err)
	}
	waiting, result := waitLock(t.Context(), s2)
	<-waiting
	if err := st.Commit(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, ErrExists) {
		t.Errorf("Begin: %v", err)
	}
}

// TestLayerLock makes sure that no layer has the byte of the lists, and that
// bytes fit a signed offset.
func TestLayerLock(t *testing.T) {
	seen := make(map[int64]bool)
	for i := range 1000 {
		at := layerLock(digest.FromString(fmt.Sprint(i)))
		if at <= namesLock || at+1 < at || seen[at] {
			t.Fatalf("layer %d has byte %d", i, at)
		}
		seen[at] = true
	}
}
