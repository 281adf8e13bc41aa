//go:build e2e

package registry

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

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

var resumeSeed = flag.Uint64("resume.seed", 0, "seed of TestKillAndResume; 0 takes one by chance")

// resumeImage has layers that several connections share in, of those sizes, and
// small ones above them. The last has to be withheld for the pull not to end.
func resumeImage(t *testing.T, sizes ...int) kit.Image {
	t.Helper()
	var layers []kit.Layer
	for i, size := range sizes {
		layers = append(layers, kit.NoiseLayer(t, size, uint64(i)))
	}
	for i := range 8 {
		layers = append(layers, kit.SmallLayer(t, fmt.Sprint("small-", i), strings.Repeat("word ", i)))
	}
	return kit.MakeImage(t, kit.ImageSpec{Layers: layers})
}

// victim is a pull that is killed time and again.
type victim struct {
	user     *kit.User
	args     []string
	im       kit.Image
	rng      *rand.Rand
	proxy    *faulty.Proxy
	withheld atomic.Bool // the last layer is, without which the pull cannot end
	kills    int
	alone    time.Duration // that a pull takes which nothing holds up
}

// newVictim takes the arguments of a pull, the last of which is the image in reg.
// The line to it is thin: if what takes the bytes were what is slow, the kernel's
// buffers would fill with what is lost by a kill.
func newVictim(t *testing.T, reg *kit.Registry, im kit.Image, u *kit.User, seed uint64, args ...string) *victim {
	t.Helper()
	v := &victim{user: u, im: im, rng: rand.New(rand.NewPCG(seed, 0))}
	v.withheld.Store(true)
	last := len(args) - 1
	v.alone = kit.Fastpull(t, "--rootfs", filepath.Join(t.TempDir(), "rootfs"), reg.Addr+"/"+args[last]).Expect(t, 0).Took
	rate := min(thinLine, int64(float64(im.Bytes())/v.alone.Seconds()/8))
	v.proxy = kit.StartFaulty(t, reg, faulty.Options{Rate: rate, Script: func(r faulty.Request) faulty.Fault {
		if r.Digest() == im.Last().Digest.String() && v.withheld.Load() {
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
	r := v.user.Start(t, slices.Concat(v.args, args)...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for end := time.Now().Add(time.Minute); !due(r.Begun) && time.Now().Before(end); {
			if r.Cmd.Process.Signal(syscall.Signal(0)) != nil {
				return
			}
			time.Sleep(500 * time.Microsecond)
		}
		r.Cmd.Process.Kill() // or it has ended by itself
	}()
	res := r.Wait(t)
	<-done
	if res.Code > 0 {
		t.Fatalf("pull %d failed, before it could be killed: exit code %d\n%s", v.kills, res.Code, res.Stderr)
	}
	v.kills++
	return res.Code == 0
}

// killFetching kills the pull at n moments of its transfer.
func (v *victim) killFetching(t *testing.T, n int) {
	t.Helper()
	moments := make([]int64, n)
	for i := range moments {
		moments[i] = v.rng.Int64N(v.im.Bytes())
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
	for there := len(kit.Names(t, dir)); there < len(v.im.Layers); there = len(kit.Names(t, dir)) {
		if v.killWhen(t, func(time.Time) bool { return len(kit.Names(t, dir)) > there }) {
			break
		}
		kills++
	}
	return kills
}

// lostPerKill bounds the bytes that a kill may cost: what the kernel holds for the
// connections of the killed process. The line carries as much in a tenth of a
// second, for which a process may wait for its turn on a busy machine.
const lostPerKill = thinLine / 10

// end lets the pull end, and checks the number of bytes that the registry sent.
// Without resuming, each kill would cost half of the image on average.
func (v *victim) end(t *testing.T) {
	t.Helper()
	v.withheld.Store(false)
	v.user.Fastpull(t, v.args...).Expect(t, 0, v.im.Digest.String())
	sent, size := v.proxy.SentInAll(), v.im.Bytes()
	t.Logf("%d kills, the registry sent %.3f times the image", v.kills, float64(sent)/float64(size))
	if sent > size+size/10+int64(v.kills)*lostPerKill {
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
	reg := kit.StartRegistry(t, kit.RegistryOptions{})

	t.Run("Store", func(t *testing.T) {
		im := resumeImage(t, 32<<20, 12<<20, 2<<20)
		reg.Push(t, "store:tag", im)
		store := filepath.Join(t.TempDir(), "store")
		v := newVictim(t, reg, im, kit.NewUser(t), seed, "--store", store, "store:tag")
		begun := time.Now()
		v.killFetching(t, 20)
		v.killUsing(t, 8)
		t.Logf("%d kills at the commits", v.killCommitting(t, store))
		v.end(t)
		kit.ExpectClean(t, store)
		clean := filepath.Join(t.TempDir(), "store")
		v.user.Fastpull(t, "--store", clean, v.args[len(v.args)-1]).Expect(t, 0)
		kit.ExpectSame(t, "the store has traces of killed pulls",
			kit.CompareDataRoots(t, kit.ReadDataRoot(t, store), kit.ReadDataRoot(t, clean), kit.TreeOptions{MadeUp: begun}))
	})
	t.Run("Output", func(t *testing.T) {
		t.Parallel()
		im := resumeImage(t, 16<<20, 6<<20, 2<<20)
		reg.Push(t, "output:tag", im)
		dir := t.TempDir()
		v := newVictim(t, reg, im, kit.NewUser(t), seed, "-o", filepath.Join(dir, "out.tar"), "output:tag")
		v.killFetching(t, 6)
		v.killUsing(t, 3)
		v.end(t)
		expectNoPartials(t, v.user)
		if left := kit.Names(t, dir); len(left) != 1 {
			t.Errorf("beside the archive: %q", left)
		}
		clean := filepath.Join(t.TempDir(), "clean.tar")
		v.user.Fastpull(t, "-o", clean, v.args[len(v.args)-1]).Expect(t, 0)
		expectSameFile(t, filepath.Join(dir, "out.tar"), clean)
	})
	t.Run("Load", func(t *testing.T) {
		t.Parallel()
		im := resumeImage(t, 16<<20, 6<<20, 2<<20)
		reg.Push(t, "load:tag", im)
		d := kit.StartDockerd(t, kit.DockerdOptions{})
		v := newVictim(t, reg, im, d.User(t), seed, "--load", "load:tag")
		v.killFetching(t, 6)
		v.killUsing(t, 3)
		v.end(t)
		expectNoPartials(t, v.user)
		expectLoaded(t, d, v.args[len(v.args)-1], im)
	})
}

// expectLoaded checks that the Engine has the image under that name, and nothing
// else. It has verified the layers itself.
func expectLoaded(t *testing.T, d *kit.Dockerd, name string, im kit.Image) {
	t.Helper()
	got := d.Inspect(t, name)
	var want []string
	for _, l := range im.Layers {
		want = append(want, l.DiffID.String())
	}
	if got.ID != im.ID.String() || !slices.Equal(got.RootFS.Layers, want) {
		t.Errorf("the Engine has %+v, want %s with the layers %q", got, im.ID, want)
	}
	if list := strings.Fields(d.Must(t, "images", "-aq")); len(list) != 1 {
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

func expectNoPartials(t *testing.T, u *kit.User) {
	t.Helper()
	if left := u.Partials(t); len(left) > 0 {
		t.Errorf("left in the cache: %q", left)
	}
}
