package pull

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
)

// mountTmpfs gives a file system of its own, until the end of the test.
func mountTmpfs(t *testing.T, options string) (dir string) {
	t.Helper()
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

// blobs are layers of which only the blob's size counts; the same size is the
// same blob.
func blobs(sizes ...int64) (layers []image.Layer) {
	for _, n := range sizes {
		layers = append(layers, image.Layer{Blob: ocispec.Descriptor{Digest: digest.FromString(fmt.Sprint(n)), Size: n}})
	}
	return layers
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

func TestExpect(t *testing.T) {
	const mb = 1 << 20
	for _, tc := range []struct {
		name    string
		passing bool
		images  [][]image.Layer // those but the last are at work, and fit
		want    []string        // of the last's error; nil if it fits
	}{
		{"fits", false, [][]image.Layer{blobs(3*mb, 4*mb)}, nil},
		{"nothing", false, [][]image.Layer{nil}, nil},
		{"exactly, and blobs are a little larger than files", false, [][]image.Layer{blobs(8*mb + 2000)}, nil},
		{"too large", false, [][]image.Layer{blobs(5*mb, 4*mb)}, []string{"9.3 MB", "8.4 MB are free at"}},
		{"lies", false, [][]image.Layer{blobs(math.MaxInt64, math.MaxInt64-1, math.MaxInt64-2)}, []string{"8.4 MB are free at"}},
		{"the same blob twice", false, [][]image.Layer{blobs(5*mb, 5*mb)}, nil},
		{"two images", false, [][]image.Layer{blobs(5 * mb), blobs(4 * mb)}, []string{"9.3 MB"}},
		{"two images that share", false, [][]image.Layer{blobs(5 * mb), blobs(5*mb, 3*mb)}, nil},
		{"two images that make room for each other", true, [][]image.Layer{blobs(5 * mb), blobs(4 * mb)}, nil},
		{"one that is too large for its own room", true, [][]image.Layer{blobs(9 * mb)}, []string{"at least 9.3 MB"}},
		{"too many", false, [][]image.Layer{blobs(1, 2, 3, 4, 5, 6, 7)}, []string{"at least 21 inodes", "19 are free at"}},
		{"as many as it takes", false, [][]image.Layer{blobs(1, 2, 3, 4, 5, 6)}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := mountTmpfs(t, "size=8m,nr_inodes=20")
			s := newSpace(dir, "find room")
			s.inodes, s.passing = 3, tc.passing
			for i, layers := range tc.images {
				forget, err := s.expect(layers, wholeBlob)
				if i < len(tc.images)-1 || tc.want == nil {
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						forget()
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
	s := newSpace(dir, "find room")
	layers := blobs(6*mb, 4*mb)
	forget, err := s.expect(layers, wholeBlob)
	if err != nil {
		t.Fatal(err)
	}
	defer forget()

	// The clock stands still: there are looks only when what was granted is used up.
	synctest.Test(t, func(t *testing.T) {
		for i := range 10 { // ten bytes of blobs yet to come, ten to be written now
			if err := s.write(mb); err != nil {
				t.Fatalf("after %d MiB: %v", i, err)
			}
			fill(t, dir, fmt.Sprint("layer", i), mb)
		}
		// So far there is room for the rest, and not for more.
		tooLittle(t, s.write(mb), "would be full", "11.4 MB are to be written", "10.5 MB are free at "+dir)
		s.came(layers[0], 6*mb)
		if err := s.write(mb); err != nil {
			t.Errorf("when most has come: %v", err)
		}
		fill(t, dir, "another", 6*mb)
		if err := s.write(mb / 4); err != nil {
			t.Errorf("of what was granted: %v", err)
		}
		fill(t, dir, "layer", mb)
	})
	// The clock of this world is ahead.
	tooLittle(t, s.write(1), "would be full")

	// What comes again is expected again; what comes more than once counts once.
	s.came(layers[0], mb)
	s.left(layers[1], 0)
	if err := s.write(3 * mb); err != nil {
		t.Errorf("when all has come: %v", err)
	}
	s.left(layers[0], 6*mb)
	s.looked = s.looked.Add(-lookEvery)
	tooLittle(t, s.write(1), "6.2 MB are to be written")

	tooLittle(t, s.fits(4*mb), "4.2 MB are needed", dir)
	if err := s.fits(3 * mb); err != nil {
		t.Error(err)
	}
}

// TestNoDisk: what cannot be asked is no room.
func TestNoDisk(t *testing.T) {
	s := newSpace(filepath.Join(t.TempDir(), "none"), "")
	_, err1 := s.expect(nil, wholeBlob)
	_, err2 := s.most()
	for _, err := range []error{err1, err2, s.write(1), s.fits(1)} {
		if err == nil || !strings.Contains(err.Error(), "free space of "+s.dir) {
			t.Errorf("error: %v", err)
		}
	}
}

// TestBoundless: a file system without a size is not a full one.
func TestBoundless(t *testing.T) {
	s := newSpace(mountTmpfs(t, "size=0,nr_inodes=0"), "")
	forget, err := s.expect(blobs(1<<40, 2), wholeBlob)
	if err != nil {
		t.Fatal(err)
	}
	defer forget()
	if most, err := s.most(); s.write(1<<20) != nil || s.fits(1<<40) != nil || most < 1<<50 || err != nil {
		t.Errorf("a layer may have %d bytes, %v", most, err)
	}
}
