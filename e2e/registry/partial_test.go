//go:build e2e

package registry

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

// interrupted is an image of which a first pull has got a part.
type interrupted struct {
	*sharing
	user *kit.User
	args []string // of the pull
	dir  string   // where its blobs are kept
	big  kit.Layer
	got  int64 // bytes of it that were sent by then
}

// source is a registry with an image.
type source struct {
	*kit.Registry
	im kit.Image
}

// newSource has an image with one large layer, as img:tag.
func newSource(t *testing.T) source {
	t.Helper()
	s := source{kit.StartRegistry(t, kit.RegistryOptions{}), resumeImage(t, 12<<20)}
	s.Push(t, "img:tag", s.im)
	return s
}

// interruptPull begins a pull, into a store or an archive, and ends it by a signal
// in the midst of the large layer.
func interruptPull(t *testing.T, from source, toStore bool, sig syscall.Signal) *interrupted {
	t.Helper()
	p := &interrupted{sharing: &sharing{im: from.im}, user: kit.NewUser(t), big: from.im.Layers[0]}
	p.proxy = kit.StartFaulty(t, from.Registry, faulty.Options{Rate: thinLine})
	p.ref = p.proxy.Addr + "/img:tag"
	if toStore {
		store := filepath.Join(t.TempDir(), "store")
		p.args, p.dir = []string{"--store", store}, filepath.Join(store, "fastpull/partial")
	} else {
		p.args, p.dir = []string{"-o", filepath.Join(t.TempDir(), "out.tar")}, filepath.Join(p.user.Home, ".cache/fastpull/partial")
	}
	r := p.start(t, p.user, p.args...)
	p.sent(t, 5<<20, r)
	r.Signal(t, sig)
	res := r.Wait(t)
	if sig == syscall.SIGINT {
		res.Expect(t, 130, "interrupted; ", " MB of layers are kept on disk; the same command continues from there")
	}
	p.got = p.proxy.Sent(p.big.Digest.String())
	if want := []string{p.big.Digest.String()}; !slices.Equal(kit.Names(t, p.dir), want) {
		t.Fatalf("kept: %q, want %q", kit.Names(t, p.dir), want)
	}
	return p
}

// file is where the large layer is kept.
func (p *interrupted) file() string { return filepath.Join(p.dir, p.big.Digest.String()) }

// again pulls once more, to the end, and returns what was sent for that.
func (p *interrupted) again(t *testing.T) int64 {
	t.Helper()
	before := p.proxy.Sent(p.big.Digest.String())
	p.start(t, p.user, p.args...).Wait(t).Expect(t, 0, p.im.Digest.String())
	return p.proxy.Sent(p.big.Digest.String()) - before
}

func (p *interrupted) size() int64 { return int64(len(p.big.Packed)) }

// expectResumed checks that a pull has fetched what was missing, and no more.
func (p *interrupted) expectResumed(t *testing.T) {
	t.Helper()
	if n := p.again(t); n < p.size()-p.got || n > p.size()-p.got+lost {
		t.Errorf("after %d bytes of %d, %d more were sent", p.got, p.size(), n)
	}
	if left := kit.Names(t, p.dir); len(left) > 0 {
		t.Errorf("still kept: %q", left)
	}
}

// expectAnew checks that a pull has fetched all of the layer.
func (p *interrupted) expectAnew(t *testing.T) {
	t.Helper()
	if n := p.again(t); n != p.size() {
		t.Errorf("%d bytes were sent of a layer of %d, of which nothing was kept", n, p.size())
	}
}

// TestInterruptResumes presses Ctrl-C in mid-blob. There is nothing to be seen of
// the pull but what is kept of the blob, and the next one fetches the rest.
func TestInterruptResumes(t *testing.T) {
	t.Parallel()
	from := newSource(t)
	for _, toStore := range []bool{true, false} {
		t.Run(fmt.Sprintf("toStore=%v", toStore), func(t *testing.T) {
			t.Parallel()
			p := interruptPull(t, from, toStore, syscall.SIGINT)
			dest := p.args[1]
			if !toStore {
				if left := kit.Names(t, filepath.Dir(dest)); len(left) > 0 {
					t.Errorf("where the archive was to go: %q", left)
				}
			} else {
				err := filepath.WalkDir(dest, func(path string, e os.DirEntry, err error) error {
					if err == nil && !e.IsDir() && path != p.file() && !slices.Contains(append(kit.OwnFiles, "repositories.json"), e.Name()) {
						t.Errorf("left in the store: %s", path)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
				if r := p.user.Fastpull(t, "images", "--store", dest).Expect(t, 0); strings.Contains(r.Stdout, "img") {
					t.Errorf("the image is there:\n%s", r.Stdout)
				}
			}
			p.expectResumed(t)
			if toStore {
				kit.ExpectClean(t, dest)
			}
		})
	}
}

// TestPrune removes the partial blobs of interrupted pulls, of a store and of the cache,
// but not those that another process is fetching.
func TestPrune(t *testing.T) {
	t.Parallel()
	from := newSource(t)
	for _, toStore := range []bool{true, false} {
		t.Run(fmt.Sprintf("toStore=%v", toStore), func(t *testing.T) {
			t.Parallel()
			p := interruptPull(t, from, toStore, syscall.SIGKILL)
			prune := []string{"prune"}
			if toStore {
				prune = append(prune, p.args...)
			}
			// Not what is not fastpull's.
			other := filepath.Join(p.dir, "other")
			kit.WriteFile(t, other, "kept")

			r := p.start(t, p.user, p.args...)
			p.sent(t, p.proxy.SentInAll()+1<<20, r)
			r.Signal(t, syscall.SIGSTOP) // that it does not end before prune has looked
			p.user.Fastpull(t, prune...).Expect(t, 0, "0 partial blobs, 0 B freed")
			if want := []string{"other", p.big.Digest.String()}; !slices.Equal(kit.Names(t, p.dir), want) {
				t.Errorf("kept while it is fetched: %q, want %q", kit.Names(t, p.dir), want)
			}
			r.Signal(t, syscall.SIGKILL)
			r.Wait(t)

			var st unix.Stat_t
			if err := unix.Stat(p.file(), &st); err != nil {
				t.Fatal(err)
			}
			said := p.user.Fastpull(t, prune...).Expect(t, 0, "1 partial blob, ")
			if strings.Contains(said.Stdout, " 0 B") || st.Blocks*512 < 5<<20 {
				t.Errorf("of a file that takes %d bytes: %s", st.Blocks*512, said.Stdout)
			}
			p.user.Fastpull(t, prune...).Expect(t, 0, "0 partial blobs, 0 B freed")
			if left := kit.Names(t, p.dir); !slices.Equal(left, []string{"other"}) {
				t.Errorf("left: %q", left)
			}
			p.expectAnew(t)
		})
	}
}

// TestForgotten: the next pull, of whatever it is, removes what nobody has asked
// for in a week, and nothing else.
func TestForgotten(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	from := newSource(t)
	other := from.Push(t, "other:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "a", "a")}}))
	for _, tc := range []struct {
		age  time.Duration
		stay bool
	}{{0, true}, {6 * day, true}, {8 * day, false}} {
		t.Run(fmt.Sprint(tc.age), func(t *testing.T) {
			t.Parallel()
			p := interruptPull(t, from, true, syscall.SIGINT)
			then := time.Now().Add(-tc.age)
			if err := os.Chtimes(p.file(), then, then); err != nil {
				t.Fatal(err)
			}
			// Looking removes nothing.
			p.user.Fastpull(t, append([]string{"--dry-run", other}, p.args...)...).Expect(t, 0)
			if len(kit.Names(t, p.dir)) != 1 {
				t.Errorf("a dry run has removed it")
			}
			p.user.Fastpull(t, append(p.args, other)...).Expect(t, 0)
			if stays := len(kit.Names(t, p.dir)) == 1; stays != tc.stay {
				t.Errorf("after %v it is there: %v", tc.age, stays)
			}
			if tc.stay {
				p.expectResumed(t)
			} else {
				p.expectAnew(t)
			}
		})
	}
}

// TestPartialOfWhole: what is kept of layers that a store has goes with the next
// pull of their image.
func TestPartialOfWhole(t *testing.T) {
	t.Parallel()
	p := interruptPull(t, newSource(t), true, syscall.SIGINT)
	kept, err := os.ReadFile(p.file())
	if err != nil {
		t.Fatal(err)
	}
	p.again(t)
	kit.WriteFile(t, p.file(), string(kept))
	if n := p.again(t); n != 0 {
		t.Errorf("%d bytes were sent of what is there", n)
	}
	kit.ExpectClean(t, p.args[1])
}

// TestPartialDamaged damages what is kept between two pulls. The second succeeds,
// and fetches no more than the layer once more.
func TestPartialDamaged(t *testing.T) {
	t.Parallel()
	from := newSource(t)
	for i, tc := range []struct {
		name   string
		damage func(t *testing.T, p *interrupted)
	}{
		{"FlippedByte", func(t *testing.T, p *interrupted) {
			p.change(t, func(b []byte) []byte {
				b[1000] ^= 1
				return b
			})
		}},
		{"FlippedFurtherOn", func(t *testing.T, p *interrupted) {
			p.change(t, func(b []byte) []byte {
				b[700<<10] ^= 1
				return b
			})
		}},
		{"AllWhole", func(t *testing.T, p *interrupted) {
			p.change(t, func(b []byte) []byte {
				bits := b[(p.size()+4095)/4096*4096+32:]
				copy(bits, bytes.Repeat([]byte{0xff}, len(bits)))
				return b
			})
		}},
		{"CutInTheBlob", func(t *testing.T, p *interrupted) {
			if err := os.Truncate(p.file(), 1<<20); err != nil {
				t.Fatal(err)
			}
		}},
		{"CutInTheRecord", func(t *testing.T, p *interrupted) {
			p.change(t, func(b []byte) []byte { return b[:len(b)-1] })
		}},
		{"Longer", func(t *testing.T, p *interrupted) {
			p.change(t, func(b []byte) []byte { return append(b, b...) })
		}},
		{"Garbage", func(t *testing.T, p *interrupted) {
			p.change(t, func(b []byte) []byte { return kit.Noise("", len(b), 9).Data })
		}},
		{"Empty", func(t *testing.T, p *interrupted) {
			p.change(t, func([]byte) []byte { return nil })
		}},
		{"Directory", func(t *testing.T, p *interrupted) {
			p.replace(t, func(path string) error { return os.Mkdir(path, 0o700) })
		}},
		{"DirectoryInUse", func(t *testing.T, p *interrupted) {
			p.replace(t, func(path string) error { return os.MkdirAll(filepath.Join(path, "a"), 0o700) })
		}},
		{"Symlink", func(t *testing.T, p *interrupted) {
			victim := filepath.Join(t.TempDir(), "victim")
			kit.WriteFile(t, victim, "not to be touched")
			p.replace(t, func(path string) error { return os.Symlink(victim, path) })
			t.Cleanup(func() {
				if text, err := os.ReadFile(victim); err != nil || string(text) != "not to be touched" {
					t.Errorf("a symlink was followed: %q, %v", text, err)
				}
			})
		}},
		{"FIFO", func(t *testing.T, p *interrupted) {
			p.replace(t, func(path string) error { return unix.Mkfifo(path, 0o600) })
		}},
		{"Socket", func(t *testing.T, p *interrupted) {
			p.replace(t, func(path string) error { return unix.Mknod(path, unix.S_IFSOCK|0o600, 0) })
		}},
		{"FolderIsAFile", func(t *testing.T, p *interrupted) {
			if err := os.RemoveAll(p.dir); err != nil {
				t.Fatal(err)
			}
			kit.WriteFile(t, p.dir, "")
		}},
		{"FolderIsASymlinkToNothing", func(t *testing.T, p *interrupted) {
			if err := os.RemoveAll(p.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/nonexistent/folder", p.dir); err != nil {
				t.Fatal(err)
			}
		}},
		{"FolderCannotBeWritten", func(t *testing.T, p *interrupted) {
			// Root is not kept out by a mode.
			if err := unix.Mount(p.dir, p.dir, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(p.dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			if err := unix.Mount("", p.dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			toStore := i%2 == 0 // what keeps blobs is the same
			p := interruptPull(t, from, toStore, syscall.SIGKILL)
			tc.damage(t, p)
			p.again(t)
			// That a byte is wrong shows when all are there.
			if sent := p.proxy.Sent(p.big.Digest.String()); sent > 2*p.size()+lost {
				t.Errorf("%d bytes were sent of a layer of %d", sent, p.size())
			}
			if toStore {
				if root := kit.ReadDataRoot(t, p.args[1]); len(root.Caches) != len(p.im.Layers) {
					t.Errorf("%d layers are there", len(root.Caches))
				}
				return
			}
			clean := filepath.Join(t.TempDir(), "clean.tar")
			kit.Fastpull(t, "-o", clean, p.ref).Expect(t, 0)
			expectSameFile(t, p.args[1], clean)
		})
	}
}

// change rewrites the file of the large layer.
func (p *interrupted) change(t *testing.T, to func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(p.file())
	if err == nil {
		err = os.WriteFile(p.file(), to(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replace puts something in the place of the file.
func (p *interrupted) replace(t *testing.T, by func(path string) error) {
	t.Helper()
	if err := os.Remove(p.file()); err != nil {
		t.Fatal(err)
	}
	if err := by(p.file()); err != nil {
		t.Fatal(err)
	}
}
