//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/faulty"
)

var resumeSeed = flag.Uint64("resume.seed", 0, "seed of TestKillAndResume; 0 takes one by chance")

// resumeImage has layers that several connections share in, of those sizes, and
// small ones above them. The last has to be withheld for the pull not to end.
func resumeImage(t *testing.T, sizes ...int) image {
	t.Helper()
	var layers []layer
	for i, size := range sizes {
		layers = append(layers, noiseLayer(t, size, uint64(i)))
	}
	for i := range 8 {
		layers = append(layers, smallLayer(t, fmt.Sprint("small-", i), strings.Repeat("word ", i)))
	}
	return makeImage(t, imageSpec{layers: layers})
}

// victim is a pull that is killed time and again.
type victim struct {
	user     *user
	args     []string
	im       image
	rng      *rand.Rand
	proxy    *faulty.Proxy
	withheld atomic.Bool // the last layer is, without which the pull cannot end
	kills    int
	alone    time.Duration // that a pull takes which nothing holds up
}

// newVictim takes the arguments of a pull, the last of which is the image in reg.
// The line to it is thin: if what takes the bytes were what is slow, the kernel's
// buffers would fill with what is lost by a kill.
func newVictim(t *testing.T, reg *registry, im image, u *user, seed uint64, args ...string) *victim {
	t.Helper()
	v := &victim{user: u, im: im, rng: rand.New(rand.NewPCG(seed, 0))}
	v.withheld.Store(true)
	last := len(args) - 1
	v.alone = fastpull(t, "--rootfs", filepath.Join(t.TempDir(), "rootfs"), reg.addr+"/"+args[last]).expect(t, 0).took
	rate := min(thinLine, int64(float64(im.bytes())/v.alone.Seconds()/8))
	v.proxy = startFaulty(t, reg, faulty.Options{Rate: rate, Script: func(r faulty.Request) faulty.Fault {
		if r.Digest() == im.last().digest.String() && v.withheld.Load() {
			return faulty.Silence()
		}
		return faulty.Fault{}
	}})
	v.args = append(slices.Clone(args[:last]), "--connections=8", v.proxy.Addr+"/"+args[last])
	return v
}

// killWhen starts the pull and kills it when it is time. It tells whether the pull
// had ended before that.
func (v *victim) killWhen(t *testing.T, due func(begun time.Time) bool, args ...string) (ended bool) {
	t.Helper()
	r := v.user.start(t, slices.Concat(v.args, args)...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for end := time.Now().Add(time.Minute); !due(r.begun) && time.Now().Before(end); {
			if r.cmd.Process.Signal(syscall.Signal(0)) != nil {
				return
			}
			time.Sleep(500 * time.Microsecond)
		}
		r.cmd.Process.Kill() // or it has ended by itself
	}()
	res := r.wait(t)
	<-done
	if res.code > 0 {
		t.Fatalf("pull %d failed, before it could be killed: exit code %d\n%s", v.kills, res.code, res.stderr)
	}
	v.kills++
	return res.code == 0
}

// killFetching kills the pull at n moments of its transfer.
func (v *victim) killFetching(t *testing.T, n int) {
	t.Helper()
	moments := make([]int64, n)
	for i := range moments {
		moments[i] = v.rng.Int64N(v.im.bytes())
	}
	slices.Sort(moments)
	for _, m := range moments {
		delay := time.Duration(v.rng.Int64N(int64(20 * time.Millisecond)))
		v.killWhen(t, func(begun time.Time) bool { return v.proxy.SentInAll() >= m && time.Since(begun) >= delay })
	}
}

// killUsing kills it at n moments when all is there but the last layer: while it
// is extracted, or sent to the Engine.
func (v *victim) killUsing(t *testing.T, n int) {
	t.Helper()
	for range n {
		delay := time.Duration(v.rng.Int64N(int64(v.alone)))
		v.killWhen(t, func(begun time.Time) bool { return time.Since(begun) >= delay })
	}
}

// killCommitting lets it come to its end, but for a kill each time that more
// layers of the store can be seen, and tells how often that was.
func (v *victim) killCommitting(t *testing.T, store string) (kills int) {
	t.Helper()
	v.withheld.Store(false)
	dir := filepath.Join(store, "image/overlay2/layerdb/sha256")
	for there := len(names(t, dir)); there < len(v.im.layers); there = len(names(t, dir)) {
		if v.killWhen(t, func(time.Time) bool { return len(names(t, dir)) > there }) {
			break
		}
		kills++
	}
	return kills
}

// end lets the pull end, and checks what the registry has sent for it.
func (v *victim) end(t *testing.T) {
	t.Helper()
	v.withheld.Store(false)
	v.user.fastpull(t, v.args...).expect(t, 0, v.im.digest.String())
	sent, size := v.proxy.SentInAll(), v.im.bytes()
	t.Logf("%d kills, the registry sent %.3f times the image", v.kills, float64(sent)/float64(size))
	if sent > size+size/5 {
		t.Errorf("the registry sent %d bytes of an image of %d, after %d kills", sent, size, v.kills)
	}
}

// thinLine is how many bytes a second come to those that are killed.
const thinLine = 8 << 20

// TestKillAndResume kills one pull at moments by chance, all over it, and starts
// it again each time. It comes to its end, with what a pull brings that was never
// disturbed, and the registry has sent little more than the image.
func TestKillAndResume(t *testing.T) {
	seed := *resumeSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-resume.seed=%d", seed)
	reg := startRegistry(t, registryOptions{})

	t.Run("Store", func(t *testing.T) {
		im := resumeImage(t, 32<<20, 12<<20, 2<<20)
		reg.push(t, "store:tag", im)
		store := filepath.Join(t.TempDir(), "store")
		v := newVictim(t, reg, im, newUser(t), seed, "--store", store, "store:tag")
		begun := time.Now()
		v.killFetching(t, 36)
		v.killUsing(t, 14)
		t.Logf("%d kills at the commits", v.killCommitting(t, store))
		v.end(t)
		expectClean(t, store)
		clean := filepath.Join(t.TempDir(), "store")
		v.user.fastpull(t, "--store", clean, v.args[len(v.args)-1]).expect(t, 0)
		expectSame(t, "the store has traces of killed pulls",
			compareDataRoots(t, readDataRoot(t, store), readDataRoot(t, clean), treeOptions{madeUp: begun}))
	})
	t.Run("Output", func(t *testing.T) {
		t.Parallel()
		im := resumeImage(t, 16<<20, 6<<20, 2<<20)
		reg.push(t, "output:tag", im)
		dir := t.TempDir()
		v := newVictim(t, reg, im, newUser(t), seed, "-o", filepath.Join(dir, "out.tar"), "output:tag")
		v.killFetching(t, 10)
		v.killUsing(t, 5)
		v.end(t)
		expectNoPartials(t, v.user)
		if left := names(t, dir); len(left) != 1 {
			t.Errorf("beside the archive: %q", left)
		}
		clean := filepath.Join(t.TempDir(), "clean.tar")
		v.user.fastpull(t, "-o", clean, v.args[len(v.args)-1]).expect(t, 0)
		expectSameFile(t, filepath.Join(dir, "out.tar"), clean)
	})
	t.Run("Load", func(t *testing.T) {
		t.Parallel()
		im := resumeImage(t, 16<<20, 6<<20, 2<<20)
		reg.push(t, "load:tag", im)
		d := startDockerd(t, dockerdOptions{})
		v := newVictim(t, reg, im, d.user(t), seed, "--load", "load:tag")
		v.killFetching(t, 10)
		v.killUsing(t, 5)
		v.end(t)
		expectNoPartials(t, v.user)
		expectLoaded(t, d, v.args[len(v.args)-1], im)
	})
}

// expectLoaded checks that the Engine has the image under that name, and nothing
// else. It has verified the layers itself.
func expectLoaded(t *testing.T, d *dockerd, name string, im image) {
	t.Helper()
	got := d.inspect(t, name)
	var want []string
	for _, l := range im.layers {
		want = append(want, l.diffID.String())
	}
	if got.ID != im.id.String() || !slices.Equal(got.RootFS.Layers, want) {
		t.Errorf("the Engine has %+v, want %s with the layers %q", got, im.id, want)
	}
	if list := strings.Fields(d.must(t, "images", "-aq")); len(list) != 1 {
		t.Errorf("the Engine has the images %q", list)
	}
}

func expectSameFile(t *testing.T, got, want string) {
	t.Helper()
	a, err1 := os.ReadFile(got)
	b, err2 := os.ReadFile(want)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s, of %d bytes, is not %s, of %d", got, len(a), want, len(b))
	}
}

func expectNoPartials(t *testing.T, u *user) {
	t.Helper()
	if left := u.partials(t); len(left) > 0 {
		t.Errorf("left in the cache: %q", left)
	}
}
