package bundle

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// inParts returns a file of size bytes, the names of its parts, and their Reader's joint.
func inParts(t *testing.T, size, part int) (all []byte, names []string, j *joint) {
	t.Helper()
	all = []byte(content(1, size))
	var files []*os.File
	for i := 0; i < size; i += part {
		name := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(name, all[i:min(i+part, size)], 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		files, names = append(files, f), append(names, name)
	}
	j, n, err := join(files)
	if err != nil || n != int64(size) {
		t.Fatal(n, err)
	}
	t.Cleanup(func() { j.Close() })
	return all, names, j
}

// TestJoint reads ranges of parts by several readers at the same time.
func TestJoint(t *testing.T) {
	all, _, j := inParts(t, 100_000, 7_001)
	var readers sync.WaitGroup
	for seed := range uint64(8) {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(seed, 0))
			for range 200 {
				off := random.IntN(len(all))
				got := make([]byte, random.IntN(20_000))
				n, err := j.ReadAt(got, int64(off))
				if short := n < len(got); !bytes.Equal(got[:n], all[off:off+n]) || short != (err == io.EOF) || short && off+n != len(all) {
					t.Errorf("%d bytes from %d on: %d, %v", len(got), off, n, err)
				}
			}
		})
	}
	readers.Wait()
}

// TestJointChanged cuts and lengthens a part while it is open. What is read is never
// from another place than before, and that it has changed is told.
func TestJointChanged(t *testing.T) {
	for _, size := range []int64{3_000, 9_000} {
		all, names, j := inParts(t, 30_000, 7_000)
		if err := j.changed(); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(names[0], size); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 10_000)
		if n, err := j.ReadAt(got, 15_000); n != len(got) || err != nil || !bytes.Equal(got, all[15_000:25_000]) {
			t.Errorf("behind the part that has %d bytes now: %d, %v", size, n, err)
		}
		if n, _ := j.ReadAt(got, 2_000); !bytes.Equal(got[:n], all[2_000:2_000+n]) {
			t.Errorf("in the part that has %d bytes now: other bytes", size)
		}
		if err := j.changed(); fault.KindOf(err) != fault.Corrupt {
			t.Errorf("a part has %d bytes now: %v", size, err)
		}
	}
}

// TestChanged tells of a bundle that was written to in its place, but not of one that
// was decompressed to a file of the Reader's own.
func TestChanged(t *testing.T) {
	for _, tc := range []struct {
		name    string
		changes bool
	}{{"b.tar", true}, {"b.tar.gz", false}} {
		f := create(t, filepath.Join(t.TempDir(), tc.name), 0)
		write(t, f)
		publish(t, f)
		r, err := openFile(t, f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Changed(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(f.Name(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := r.Changed(); (err != nil) != tc.changes {
			t.Errorf("%s was written to: %v", tc.name, err)
		}
		r.Close()
	}
}
