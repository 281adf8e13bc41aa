package disk

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// mountTmpfs gives a file system of its own, until the end of the test.
func mountTmpfs(t *testing.T, options string) (dir string) {
	t.Helper()
	need.Root(t, "mount a tmpfs")
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes n bytes to a file of its own in dir.
func fill(t *testing.T, dir, name string, n int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), make([]byte, n), 0o600); err != nil {
		t.Fatal(err)
	}
}

// blobs returns the needs of blobs of the given sizes, of which nothing is there. The
// same size is the same blob.
func blobs(sizes ...int64) (needs []Need) {
	for _, n := range sizes {
		needs = append(needs, Need{digest.FromString(fmt.Sprint(n)), n})
	}
	return needs
}

// tooLittle checks that err says what is missing, where, and what helps.
func tooLittle(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if fault.KindOf(err) != fault.Failed || fault.HintOf(err) != "find room" {
		t.Errorf("kind %d, hint %q", fault.KindOf(err), fault.HintOf(err))
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("does not say %q: %v", w, err)
		}
	}
}

func TestReserve(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		name    string
		passing bool
		images  [][]Need // those but the last are at work, and fit
		want    []string // of the last's error; nil if it fits
	}{
		{"fits", false, [][]Need{blobs(3*mb, 4*mb)}, nil},
		{"nothing", false, [][]Need{nil}, nil},
		{"exactly, and blobs are a little larger than files", false, [][]Need{blobs(8*mb + 2000)}, nil},
		{"too large", false, [][]Need{blobs(5*mb, 4*mb)}, []string{"9.3 MB", "8.4 MB are free at"}},
		{"lies", false, [][]Need{blobs(math.MaxInt64, math.MaxInt64-1, math.MaxInt64-2)}, []string{"8.4 MB are free at"}},
		{"the same blob twice", false, [][]Need{blobs(5*mb, 5*mb)}, nil},
		{"two images", false, [][]Need{blobs(5 * mb), blobs(4 * mb)}, []string{"9.3 MB"}},
		{"two images that share", false, [][]Need{blobs(5 * mb), blobs(5*mb, 3*mb)}, nil},
		{"two images that make room for each other", true, [][]Need{blobs(5 * mb), blobs(4 * mb)}, nil},
		{"one that is too large for its own room", true, [][]Need{blobs(9 * mb)}, []string{"at least 9.3 MB"}},
		{"too many", false, [][]Need{blobs(1, 2, 3, 4, 5, 6, 7)}, []string{"at least 21 inodes", "19 are free at"}},
		{"as many as it takes", false, [][]Need{blobs(1, 2, 3, 4, 5, 6)}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := mountTmpfs(t, "size=8m,nr_inodes=20")
			s := NewSpace(Options{Dir: dir, Advice: "find room", Inodes: 3, Passing: tc.passing})
			for i, needs := range tc.images {
				release, err := s.Reserve(needs)
				if i < len(tc.images)-1 || tc.want == nil {
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						release()
						if i == 0 && len(s.blobs) > 0 {
							t.Errorf("what was expected is not forgotten: %v", s.blobs)
						}
					}()
					continue
				}
				tooLittle(t, err, append(tc.want, dir)...)
			}
		})
	}
}

// TestWrite fills a file system as layers come, while somebody else does too.
func TestWrite(t *testing.T) {
	const mb = 1 << 20
	dir := mountTmpfs(t, "size=20m")
	s := NewSpace(Options{Dir: dir, Advice: "find room"})
	needs := blobs(6*mb, 4*mb)
	release, err := s.Reserve(needs)
	if err != nil {
		t.Fatal(err)
	}
	defer release()

	// The clock stands still: there are looks only when what was granted is used up.
	synctest.Test(t, func(t *testing.T) {
		for i := range 10 { // ten bytes of blobs yet to come, ten to be written now
			if err := s.Write(mb); err != nil {
				t.Fatalf("after %d MiB: %v", i, err)
			}
			fill(t, dir, fmt.Sprint("layer", i), mb)
		}
		// So far there is room for the rest, and not for more.
		tooLittle(t, s.Write(mb), "would be full", "11.4 MB are to be written", "10.5 MB are free at "+dir)
		s.Downloaded(needs[0].Digest, 6*mb)
		if err := s.Write(mb); err != nil {
			t.Errorf("when most has come: %v", err)
		}
		fill(t, dir, "another", 6*mb)
		if err := s.Write(mb / 4); err != nil {
			t.Errorf("of what was granted: %v", err)
		}
		fill(t, dir, "layer", mb)
	})
	// The clock of this world is ahead.
	tooLittle(t, s.Write(1), "would be full")

	// What comes again is expected again; what comes more than once counts once.
	s.Downloaded(needs[0].Digest, mb)
	s.SetLeft(needs[1].Digest, 0)
	if err := s.Write(3 * mb); err != nil {
		t.Errorf("when all has come: %v", err)
	}
	s.SetLeft(needs[0].Digest, 6*mb)
	s.looked = s.looked.Add(-lookEvery)
	tooLittle(t, s.Write(1), "6.2 MB are to be written")

	tooLittle(t, s.Fits(4*mb), "4.2 MB are needed", dir)
	if err := s.Fits(3 * mb); err != nil {
		t.Error(err)
	}
}

// TestNoDisk: what cannot be asked is no room.
func TestNoDisk(t *testing.T) {
	s := NewSpace(Options{Dir: filepath.Join(t.TempDir(), "none")})
	_, err1 := s.Reserve(nil)
	_, err2 := s.MostPlain()
	for _, err := range []error{err1, err2, s.Write(1), s.Fits(1)} {
		if err == nil || !strings.Contains(err.Error(), "free space of "+s.Dir()) {
			t.Errorf("error: %v", err)
		}
	}
}

// TestBoundless: a file system without a size is not a full one.
func TestBoundless(t *testing.T) {
	s := NewSpace(Options{Dir: mountTmpfs(t, "size=0,nr_inodes=0")})
	release, err := s.Reserve(blobs(1<<40, 2))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if most, err := s.MostPlain(); s.Write(1<<20) != nil || s.Fits(1<<40) != nil || most < 1<<50 || err != nil {
		t.Errorf("a layer may have %d bytes, %v", most, err)
	}
}
