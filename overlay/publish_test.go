package overlay

import (
	"context"
	"errors"
	"io/fs"
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

// staged is a data-root and what waits there.
type staged struct {
	dir          string
	a, up, fresh *image.Image // Docker's; on top of that; and a new one, which takes a name of a
}

// stage makes a data-root with an image, and stages two for it.
func stage(t *testing.T) staged {
	t.Helper()
	return stageIn(t, t.TempDir())
}

func stageIn(t *testing.T, dir string) staged {
	t.Helper()
	base := openTest(t, dir)
	w := staged{dir: base.dir, a: putChain(t, base, "a", 2)}
	record(t, base, w.a, "a:1", "a:2")
	base.Close()
	g := openStaging(t, w.dir)
	top := tarOf("top", "on a")
	if _, err := put(g.Store, w.a.Layers[1].ChainID, top); err != nil {
		t.Fatal(err)
	}
	w.up = imageOf(t, "up", w.a.Layers[0].DiffID, w.a.Layers[1].DiffID, digest.FromBytes(top))
	w.fresh = putChain(t, g.Store, "new", 2)
	for _, l := range w.up.Layers {
		if err := g.PutBlob(t.Context(), digest.FromString("blob of "+l.DiffID.String()), l.DiffID, "host/up"); err != nil {
			t.Fatal(err)
		}
	}
	record(t, g.Store, w.up, "up:1")
	record(t, g.Store, w.fresh, "new:1", "a:2")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

func openStaging(t *testing.T, dir string) *Staging {
	t.Helper()
	g, err := OpenStaging(t.Context(), dir, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// publishAll publishes what is staged.
func publishAll(t *testing.T, dir string) []Published {
	t.Helper()
	g := openStaging(t, dir)
	ready, _, err := g.Prepare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	done, err := g.Publish(t.Context(), ready)
	if err := errors.Join(err, g.Tidy(), g.Close()); err != nil {
		t.Fatal(err)
	}
	return done
}

// TestUsageOfStaged counts the images that are staged, and none once they are published.
func TestUsageOfStaged(t *testing.T) {
	w := stage(t)
	r, err := OpenReader(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	before, err := r.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before.Staged.Count != 2 || before.Staged.Size == 0 {
		t.Errorf("staged: %+v, want 2 images", before.Staged)
	}
	publishAll(t, w.dir)
	after, err := r.Usage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.Staged.Count != 0 || after.Staged.Size != 0 {
		t.Errorf("staged after publishing: %+v", after.Staged)
	}
}

// whole checks that all that is visible in the data-root is complete.
func (w staged) whole(t *testing.T, layers int) *Reader {
	t.Helper()
	r, err := OpenReader(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Verify(t.Context(), VerifyOptions{})
	if err != nil || len(v.Damages) > 0 {
		t.Errorf("verify: %v %v", v.Damages, err)
	}
	if layers >= 0 && v.Layers != layers {
		t.Errorf("%d layers are in the data-root, want %d", v.Layers, layers)
	}
	return r
}

// all checks that the data-root has everything, and that nothing waits.
func (w staged) all(t *testing.T) {
	t.Helper()
	r := w.whole(t, 5)
	for name, img := range map[string]*image.Image{"a:1": w.a, "a:2": w.fresh, "up:1": w.up, "new:1": w.fresh} {
		if id, err := r.ID(name); err != nil || id != img.ID {
			t.Errorf("%s is %s, want %s (%v)", name, id, img.ID, err)
		}
	}
	for _, l := range w.up.Layers {
		if from := r.Origins(l.DiffID); len(from) != 1 || from[0].Repository != "host/up" {
			t.Errorf("the blob of %s: %v", l.DiffID, from)
		}
		if data, err := os.ReadFile(r.byDigest(digest.FromString("blob of " + l.DiffID.String()))); err != nil || string(data) != l.DiffID.String() {
			t.Errorf("%s %v", data, err)
		}
	}
	if _, err := os.Lstat(StagedIn(w.dir)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the staging store is still there: %v", err)
	}
	for _, dir := range []string{"fastpull/run", "fastpull/pending"} {
		if got := tree(t, filepath.Join(w.dir, dir)); len(got) != 1 {
			t.Errorf("left in %s: %q", dir, got[1:])
		}
	}
}

// TestPublish stages images while nothing of Docker's is changed, and publishes them.
func TestPublish(t *testing.T) {
	w := stage(t)
	s := openTest(t, w.dir)
	before := visible(t, s)
	s.Close()
	again := openStaging(t, w.dir)
	if _, err := put(again.Store, "", tarOf("a-1", "layer 1 of a")); !errors.Is(err, ErrExists) {
		t.Errorf("a layer that Docker has: %v", err)
	}
	record(t, again.Store, w.a, "a:1") // it has the name in the data-root
	list, _, err := again.Waiting()
	if err != nil || len(list) != 2 {
		t.Errorf("%d images wait (%v)", len(list), err)
	}
	if got := again.Chain(w.up.Layers); len(got) != 3 || !got[1].below || got[2].below {
		t.Errorf("layers of the image on top of Docker's: %+v", got)
	}
	if v, err := again.Verify(t.Context(), VerifyOptions{}); err != nil || len(v.Damages) > 0 || v.Layers != 3 {
		t.Errorf("verify of what is staged: %+v %v", v, err)
	}
	ready, _, err := again.Prepare(t.Context(), nil)
	if err != nil || len(ready) != 2 {
		t.Fatalf("%d are ready (%v)", len(ready), err)
	}
	if after := visible(t, &Store{Reader: Reader{dir: w.dir}}); after != before {
		t.Errorf("staging has changed what is Docker's:\n%s\nbefore:\n%s", after, before)
	}
	again.Close()
	done := publishAll(t, w.dir)
	moved := 0
	for _, p := range done {
		moved += p.Layers
	}
	if len(done) != 2 || moved != 3 {
		t.Errorf("published: %+v", done)
	}
	w.all(t)
	if got := openStaging(t, w.dir); got != nil {
		if ready, _, err := got.Prepare(t.Context(), nil); err != nil || len(ready) != 0 {
			t.Errorf("%d images are ready again (%v)", len(ready), err)
		}
	}
}

func childPublish(args []string) error {
	published = func(step string) {
		if step == args[1] {
			unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	g, err := OpenStaging(background, args[0], Options{NoSync: true})
	if err != nil {
		return err
	}
	ready, _, err := g.Prepare(background, nil)
	if err == nil {
		_, err = g.Publish(background, ready)
	}
	return err
}

// TestPublishCrash kills a process at every step of a publication. What the data-root has is
// whole then, as a dockerd finds it, and the next publication ends what was begun.
func TestPublishCrash(t *testing.T) {
	for _, step := range []string{"note", "files", "link", "aside", "entry", "config", "names", "staged names"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel() // it waits for the disk most of the time
			w := stage(t)
			c := start(t, "publish", w.dir, "publish: "+step)
			c.cmd.Wait()
			if c.cmd.ProcessState.Success() || c.err.Len() > 0 {
				t.Fatalf("the child was not killed: %v %s", c.cmd.ProcessState, c.err.String())
			}
			r := w.whole(t, -1)
			for _, name := range []string{"a:1", "a:2"} {
				if id, err := r.ID(name); err != nil || id == "" {
					t.Errorf("%s leads nowhere (%v)", name, err)
				}
			}
			// What a dockerd's user does between: nothing, or a prune, which must not
			// remove what is staged.
			s := openTest(t, w.dir)
			s.Close()
			if _, err := Prune(t.Context(), w.dir, PruneOptions{}); err != nil {
				t.Fatal(err)
			}
			w.whole(t, -1)
			g := openStaging(t, w.dir)
			if have := len(g.Chain(w.up.Layers)) + len(g.Chain(w.fresh.Layers)); have != 5 && step != "staged names" {
				t.Errorf("of 5 layers %d are left", have)
			}
			g.Close()
			publishAll(t, w.dir)
			w.all(t)
		})
	}
}

// TestPublishCrashAgain: after a crash in the middle of a layer Docker is started, so that
// the layer cannot be given back, and it is staged again.
func TestPublishCrashAgain(t *testing.T) {
	w := stage(t)
	start(t, "publish", w.dir, "publish: files").cmd.Wait()
	g := openStaging(t, w.dir)
	again := 0
	restage := func(parent digest.Digest, plain []byte) {
		t.Helper()
		if _, err := put(g.Store, parent, plain); err == nil {
			again++
		} else if !errors.Is(err, ErrExists) {
			t.Fatal(err)
		}
	}
	restage(w.a.Layers[1].ChainID, tarOf("top", "on a"))
	restage("", tarOf("new-1", "layer 1 of new"))
	restage(w.fresh.Layers[0].ChainID, tarOf("new-2", "layer 2 of new"))
	if again != 1 {
		t.Errorf("%d layers were staged again", again)
	}
	g.Close()
	publishAll(t, w.dir)
	w.all(t)
	if names, _ := os.ReadDir(filepath.Join(w.dir, "overlay2")); len(names) != 6 {
		t.Errorf("overlay2 has %v, want 5 layers and their links", names)
	}
}

// removeA removes Docker's image and its layers, as Docker does: fastpull would leave the
// layers that a staged image needs.
func (w staged) removeA(t *testing.T, base *Store) {
	t.Helper()
	for _, name := range []string{"a:1", "a:2"} {
		r, err := base.Remove(t.Context(), name, RemoveOptions{})
		if err != nil || len(r.Layers) > 0 {
			t.Fatalf("removed: %+v %v", r, err)
		}
	}
	for _, l := range w.a.Layers {
		e := base.entryOf(l.ChainID)
		if err := errors.Join(os.RemoveAll(base.path("image/overlay2/layerdb/sha256", l.ChainID.Encoded())), os.RemoveAll(base.path("overlay2", e.cacheID))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPublishGone: Docker has removed a layer that a staged image stands on. Others are
// published, and the image when the layer has come again.
func TestPublishGone(t *testing.T) {
	w := stage(t)
	base := openTest(t, w.dir)
	w.removeA(t, base)
	base.Close()
	g := openStaging(t, w.dir)
	ready, unready, err := g.Prepare(t.Context(), nil)
	if err != nil || len(unready) != 1 || !errors.Is(unready[0].Err, ErrGone) || fault.HintOf(unready[0].Err) == "" || len(ready) != 1 || ready[0].ID != w.fresh.ID {
		t.Fatalf("%d are ready, %v not (%v)", len(ready), unready, err)
	}
	if done, err := g.Publish(t.Context(), ready); err != nil || len(done) != 1 {
		t.Fatalf("%v %v", done, err)
	}
	if err := errors.Join(g.Tidy(), g.Close()); err != nil {
		t.Fatal(err)
	}
	w.whole(t, 2)
	g = openStaging(t, w.dir)
	putChain(t, g.Store, "a", 2)
	g.Close()
	if done := publishAll(t, w.dir); len(done) != 1 || done[0].Layers != 3 {
		t.Errorf("%+v", done)
	}
	w.whole(t, 5)
}

// TestPublishLowers: the names by which mounts know Docker's layers are others by now.
func TestPublishLowers(t *testing.T) {
	w := stage(t)
	base := openTest(t, w.dir)
	w.removeA(t, base)
	putChain(t, base, "a", 2)
	record(t, base, w.a, "a:1")
	base.Close()
	publishAll(t, w.dir)
	w.whole(t, 5)
	at := t.TempDir()
	r, _ := OpenReader(w.dir)
	if err := r.Mount(w.up, at); err != nil {
		t.Fatal(err)
	}
	names, _ := os.ReadDir(at)
	if err := Unmount(t.Context(), at); err != nil || len(names) != 3 {
		t.Errorf("the mounted image has %v (%v)", names, err)
	}
}

// TestPublishRefused: nothing is moved into the root of a dockerd that runs, though images
// can be staged for it. Other roots are refused before.
func TestPublishRefused(t *testing.T) {
	w := stage(t)
	write(t, filepath.Join(w.dir, "volumes/metadata.db"), "")
	c := start(t, "flock", w.dir+"/volumes/metadata.db")
	c.line(t)
	g := openStaging(t, w.dir)
	ready, _, err := g.Prepare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Publish(t.Context(), ready); err == nil || !strings.Contains(err.Error(), "dockerd that is running") {
		t.Errorf("error: %v", err)
	}
	g.Close()
	c.kill()
	publishAll(t, w.dir)
	w.all(t)

	for want, spoil := range map[string]func(dir string){
		"no store at":            func(dir string) { os.RemoveAll(dir + "/image") },
		"storage driver btrfs":   func(dir string) { write(t, dir+"/image/btrfs/x", "") },
		"remaps users":           func(dir string) { write(t, dir+"/100.100/x", "") },
		"is mounted there":       func(dir string) { bind(t, dir+"/overlay2") },
		"belongs to the user 12": func(dir string) { os.Chown(dir+"/image/overlay2/layerdb", 12, 12) },
	} {
		w := stage(t)
		spoil(w.dir)
		if _, err := OpenStaging(t.Context(), w.dir, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// bind mounts a directory on itself.
func bind(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// TestForget: a name for an image that the data-root has is staged, and given up.
func TestForget(t *testing.T) {
	w := stage(t)
	g := openStaging(t, w.dir)
	record(t, g.Store, w.a, "b:1")
	if ready, _, err := g.Prepare(t.Context(), nil); err != nil || len(ready) != 3 {
		t.Fatalf("%d are ready (%v)", len(ready), err)
	}
	list, _, err := g.Waiting()
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range list {
		if only := g.NamesOnly(img); only != (img.ID == w.a.ID) {
			t.Errorf("%v: %v", img.Names, only)
		}
		if err := g.Forget(img); err != nil {
			t.Fatal(err)
		}
	}
	if list, damaged, err := g.Waiting(); err != nil || len(list)+len(damaged) > 0 {
		t.Errorf("%v, %v wait (%v)", list, damaged, err)
	}
	g.Close()
	w.whole(t, 2)
}

// TestPublishInterrupted: a publication that has begun goes on after an interrupt, and its errors
// are for the user then.
func TestPublishInterrupted(t *testing.T) {
	w := stage(t)
	g := openStaging(t, w.dir)
	ready, _, err := g.Prepare(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	published = func(step string) {
		if step == "publish: config" && ctx.Err() == nil { // the first image is there
			cancel()
			if err := os.RemoveAll(g.path("overlay2")); err != nil {
				t.Error(err)
			}
		}
	}
	defer func() { published = nil }()
	done, err := g.Publish(ctx, ready)
	if len(done) != 1 || !errors.Is(fault.LastingIn(err), os.ErrNotExist) {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := g.Publish(ctx, ready); !errors.Is(err, context.Canceled) || fault.LastingIn(err) != nil {
		t.Errorf("one that has not begun: %v", err)
	}
}

// TestSeize: a publication has what is staged for itself, and waits for others.
func TestSeize(t *testing.T) {
	w := stage(t)
	one, two := openStaging(t, w.dir), openStaging(t, w.dir)
	met := make(chan struct{})
	result := make(chan error, 1)
	go func() {
		_, _, err := one.Prepare(t.Context(), func() { close(met) })
		result <- err
	}()
	<-met
	two.Close()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	opened := make(chan *Staging)
	go func() { g, _ := OpenStaging(t.Context(), w.dir, Options{NoSync: true}); opened <- g }()
	select {
	case <-opened:
		t.Error("another process has opened it meanwhile")
	case <-time.After(200 * time.Millisecond):
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := OpenStaging(ctx, w.dir, Options{NoSync: true, Waiting: cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	one.Close()
	if g := <-opened; g == nil {
		t.Error("it cannot be opened afterwards")
	} else {
		g.Close()
	}
}

// TestSeizedByStopped: a process that has what is staged for itself and stands still is not waited
// for without an end.
func TestSeizedByStopped(t *testing.T) {
	need.Time(t, "a process that has stopped")
	before := beatLost
	t.Cleanup(func() { beatLost = before })
	w := stage(t)
	one := openStaging(t, w.dir)
	if _, _, err := one.Prepare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	one.rest() // as if it were stopped
	beatLost = 1500 * time.Millisecond
	open := func() error {
		_, err := OpenStaging(t.Context(), w.dir, Options{NoSync: true})
		return err
	}
	drop := func() error {
		_, _, err := DropStaged(t.Context(), w.dir, false, nil)
		return err
	}
	for _, wait := range []func() error{open, drop} {
		if err := wait(); fault.HintOf(err) == "" || !strings.Contains(err.Error(), "no sign of life") {
			t.Errorf("the wait ended with %v", err)
		}
	}
}

// TestSeizedAndDropped: a process that waits for a store which goes does not wait until its files
// are gone.
func TestSeizedAndDropped(t *testing.T) {
	w := stage(t)
	one := openStaging(t, w.dir)
	if _, _, err := one.Prepare(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	g, err := OpenStaging(ctx, w.dir, Options{NoSync: true, Waiting: func() {
		if err := os.Rename(StagedIn(w.dir), filepath.Join(w.dir, "dropped")); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
}

// TestDropStaged removes what is staged, and nothing else.
func TestDropStaged(t *testing.T) {
	w := stage(t)
	for _, dry := range []bool{true, false} {
		n, freed, err := DropStaged(t.Context(), w.dir, dry, nil)
		if n != 2 || freed < 8<<10 || err != nil {
			t.Errorf("dry run %v: %d images, %d bytes, %v", dry, n, freed, err)
		}
		if _, err := os.Lstat(StagedIn(w.dir)); (err == nil) != dry {
			t.Errorf("dry run %v: %v", dry, err)
		}
	}
	if n, _, err := DropStaged(t.Context(), w.dir, false, nil); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	r := w.whole(t, 2)
	if list, err := r.Images(); err != nil || len(list) != 1 || !slices.Equal(list[0].Names, []string{"a:1", "a:2"}) {
		t.Errorf("%v %v", list, err)
	}
}
