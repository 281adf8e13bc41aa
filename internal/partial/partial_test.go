package partial

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// blob is one of some blocks and a bit.
var blob = func() []byte {
	b := make([]byte, 20*Block+777)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}()

var name = digest.FromBytes(blob)

func open(t *testing.T, d *Folder) *File {
	t.Helper()
	f, err := d.Open(name, int64(len(blob)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func own(t *testing.T, f *File) {
	t.Helper()
	if mine, err := f.Own(); !mine || err != nil {
		t.Fatalf("Own: %v, %v", mine, err)
	}
}

// fill writes [from, to) in odd pieces.
func fill(t *testing.T, f *File, from, to int) {
	t.Helper()
	w := f.Writer(int64(from))
	for from < to {
		n := min(7001, to-from)
		if _, err := w.Write(blob[from : from+n]); err != nil {
			t.Fatal(err)
		}
		from += n
	}
}

func TestRanges(t *testing.T) {
	d := In(filepath.Join(t.TempDir(), "a/b"))
	f := open(t, d)
	own(t, f)
	size := len(blob)
	expect := func(f *File, want string) {
		t.Helper()
		var got string
		for pos := int64(0); ; {
			start, end := f.Missing(pos)
			if start == end {
				break
			}
			got += fmt.Sprintf("%d-%d ", start, end)
			pos = end
		}
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("missing: %q, want %q", got, want)
		}
	}
	expect(f, fmt.Sprintf("0-%d", size))
	fill(t, f, Block, 4*Block+100) // of the last block only a part
	expect(f, fmt.Sprintf("0-%d %d-%d", Block, 4*Block, size))
	fill(t, f, 20*Block, size)
	expect(f, fmt.Sprintf("0-%d %d-%d", Block, 4*Block, 20*Block))
	if got := f.Whole(2*Block+5, int64(len(blob))); got != 4*Block {
		t.Errorf("whole up to %d", got)
	}
	if got := f.Whole(4*Block, int64(len(blob))); got != 4*Block {
		t.Errorf("nothing is whole there, but up to %d", got)
	}

	// Another one sees the same.
	other := open(t, d)
	expect(other, fmt.Sprintf("0-%d %d-%d", Block, 4*Block, 20*Block))
	if want := int64(3*Block + 777); other.Found() != want || other.Left() != int64(size)-want {
		t.Errorf("found %d, left %d", other.Found(), other.Left())
	}
	if n := d.Found(name, int64(size)); n != 3*Block+777 {
		t.Errorf("found %d without opening", n)
	}
	if n := In(filepath.Join(d.Dir(), "none")).Found(name, int64(size)); n != 0 {
		t.Errorf("found %d where nothing is", n)
	}
	if n := d.Found(name, int64(size)-Block); n != 0 {
		t.Errorf("found %d of another size", n)
	}
	fill(t, f, 0, Block)
	fill(t, f, 4*Block, 20*Block)
	if !other.Refresh() || other.Left() != 0 {
		t.Errorf("left %d", other.Left())
	}
	got := make([]byte, size+10)
	if n, err := other.ReadWhole(got, 0); err != nil || !bytes.Equal(got[:n], blob) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// What is whole stays as it is, also when other bytes come for it: a reader that has read
// it may have hashed it.
func TestWholeStays(t *testing.T) {
	f := open(t, In(t.TempDir()))
	own(t, f)
	fill(t, f, 3*Block, 5*Block)
	fill(t, f, 9*Block, 10*Block)
	fill(t, f, 20*Block, len(blob))
	other := bytes.Clone(blob)
	for i := range other {
		if in := i / Block; in == 3 || in == 4 || in == 9 || in == 20 {
			other[i]++
		}
	}
	w := f.Writer(0)
	for rest := other; len(rest) > 0; {
		n, err := w.Write(rest[:min(3*Block+1234, len(rest))])
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	got := make([]byte, len(blob))
	if _, err := f.ReadWhole(got, 0); err != nil || !bytes.Equal(got, blob) || f.Left() != 0 {
		t.Errorf("what was whole is another, or %d bytes are left, %v", f.Left(), err)
	}
}

// Only one may write, and when it goes the next one may. One that has waited for
// a file which is no more gets a new one.
func TestOwn(t *testing.T) {
	d := In(t.TempDir())
	one, two, three := open(t, d), open(t, d), open(t, d)
	own(t, one)
	fill(t, one, 0, 3*Block)
	if mine, err := two.Own(); mine || err != nil {
		t.Fatalf("two owners: %v, %v", mine, err)
	}
	one.Close()
	own(t, two)
	if got := two.Whole(0, int64(len(blob))); got != 3*Block {
		t.Errorf("the next one sees %d bytes", got)
	}
	if err := two.Remove(); err != nil {
		t.Fatal(err)
	}
	two.Close()
	own(t, three)
	if three.Left() != three.Size() {
		t.Errorf("of a removed file %d bytes are left", three.Left())
	}
	fill(t, three, 0, len(blob))
	if err := two.Remove(); err != nil { // it is another file by now
		t.Error(err)
	}
	if open(t, d).Left() != 0 {
		t.Error("what somebody else had made was removed")
	}
}

// A file that is something else is begun anew, and no symlink is followed.
func TestStrange(t *testing.T) {
	dir := t.TempDir()
	d, file := In(dir), filepath.Join(dir, name.String())
	for _, content := range []string{"", "x", strings.Repeat("\xff", len(blob)+5000)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, d)
		if f.Found() != 0 {
			t.Errorf("%d bytes: found %d", len(content), f.Found())
		}
		own(t, f)
		fill(t, f, 0, len(blob))
		f.Close()
		if f := open(t, d); f.Left() != 0 {
			t.Errorf("%d bytes: %d are left", len(content), f.Left())
		}
	}
	other, err := d.Open(name, int64(len(blob))-1)
	if err != nil || other.Found() != 0 {
		t.Errorf("of another size: found %d, %v", other.Found(), err)
	}
	other.Close()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "victim"), file); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(name, 5); err == nil {
		t.Error("a symlink was followed")
	}
	for _, size := range []int64{0, -1, MaxSize + 1} {
		if _, err := d.Open(digest.FromString("x"), size); err == nil {
			t.Errorf("a file for %d bytes", size)
		}
	}
}

func TestSweep(t *testing.T) {
	d := In(t.TempDir())
	if n, freed, err := In(filepath.Join(d.Dir(), "none")).Sweep(time.Now()); n != 0 || freed != 0 || err != nil {
		t.Errorf("in no folder: %d, %d, %v", n, freed, err)
	}
	f := open(t, d)
	own(t, f)
	fill(t, f, 0, 5*Block)
	other := filepath.Join(d.Dir(), "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		when  string
		since time.Time
		want  int
	}{
		{"in use", time.Now().Add(time.Hour), 0},
		{"asked for", time.Now().Add(-time.Hour), 0},
		{"forgotten", time.Now().Add(time.Hour), 1},
		{"gone", time.Now().Add(time.Hour), 0},
	} {
		n, freed, err := d.Sweep(tc.since)
		if n != tc.want || err != nil || (freed >= 5*Block) != (n > 0) {
			t.Errorf("%s: %d files with %d bytes, %v", tc.when, n, freed, err)
		}
		f.Close()
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

func TestRemove(t *testing.T) {
	d := In(t.TempDir())
	if err := d.Remove(name); err != nil {
		t.Errorf("of what is not there: %v", err)
	}
	f := open(t, d)
	own(t, f)
	fill(t, f, 0, 5*Block)
	there := func() bool {
		_, err := os.Stat(filepath.Join(d.Dir(), name.String()))
		return err == nil
	}
	if err := d.Remove(name); err != nil || !there() {
		t.Errorf("in use: %v, there: %v", err, there())
	}
	f.Close()
	if err := d.Remove(name); err != nil || there() {
		t.Errorf("left: %v, there: %v", err, there())
	}
}

// TestKill runs itself again and again, and kills what it runs. What is called
// whole afterwards is.
func TestKill(t *testing.T) {
	if dir := os.Getenv("PARTIAL_TEST_DIR"); dir != "" {
		f := open(t, In(dir))
		own(t, f)
		os.Stdout.WriteString("begun\n")
		for { // to the end, and from the front again in what is a hole now
			start, end := f.Missing(0)
			if start == end {
				select {}
			}
			fill(t, f, int(start), int(end))
		}
	}
	d := In(t.TempDir())
	for i := range 15 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "PARTIAL_TEST_DIR="+d.Dir())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 6)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Duration(i*30) * time.Microsecond)
		cmd.Process.Kill()
		_ = cmd.Wait()

		f := open(t, d)
		for pos := int64(0); pos < f.Size(); {
			end := f.Whole(pos, int64(len(blob)))
			got := make([]byte, end-pos)
			if _, err := f.ReadWhole(got, pos); err != nil || !bytes.Equal(got, blob[pos:end]) {
				t.Fatalf("kill %d: bytes %d-%d are not whole, %v", i, pos, end, err)
			}
			_, pos = f.Missing(end)
		}
		f.Close()
		if i%3 == 2 {
			if _, _, err := d.Sweep(time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestReadWhileReplaced reads what is whole while the File comes to be another file, of
// which nothing is: what is read is never from there.
func TestReadWhileReplaced(t *testing.T) {
	for range 300 {
		d := In(t.TempDir())
		first := open(t, d)
		own(t, first)
		fill(t, first, 0, 10*Block)
		f := open(t, d)
		if err := first.Remove(); err != nil {
			t.Fatal(err)
		}
		first.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for got := make([]byte, 3*Block); ; {
				n, err := f.ReadWhole(got, Block)
				if err != nil || !bytes.Equal(got[:n], blob[Block:Block+n]) {
					t.Errorf("bytes are read that are not whole, %v", err)
				}
				if n == 0 {
					return
				}
			}
		}()
		own(t, f)
		<-done
	}
}

// TestMoveTo gives a blob away: the file at the new path has the blob alone, readers read
// on, and another process that was following finds the blob whole.
func TestMoveTo(t *testing.T) {
	d := In(filepath.Join(t.TempDir(), "partial"))
	target := filepath.Join(t.TempDir(), "blob")
	f := open(t, d)
	own(t, f)
	fill(t, f, 0, len(blob)-1)
	follower := open(t, d)
	if moved, err := f.MoveTo(target, true); moved || err != nil {
		t.Fatalf("a blob that another process may still fetch was moved: %v, %v", moved, err)
	}
	fill(t, f, len(blob)/Block*Block, len(blob))
	f.Close()
	if moved, err := f.MoveTo(filepath.Join(target, "none"), true); moved || err != nil {
		t.Errorf("moved to a directory that is not there: %v, %v", moved, err)
	}
	if again := open(t, d); again.Left() > 0 {
		t.Errorf("%d bytes are missing after a move that was not possible", again.Left())
	}
	if moved, err := f.MoveTo(target, true); !moved || err != nil {
		t.Fatalf("MoveTo: %v, %v", moved, err)
	}
	got, err := os.ReadFile(target)
	if err != nil || !bytes.Equal(got, blob) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if st, err := os.Stat(target); err != nil || st.Mode() != 0o444 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	follower.Refresh()
	read := make([]byte, len(blob))
	if n, err := follower.ReadWhole(read, 0); err != nil || !bytes.Equal(read[:n], blob) {
		t.Errorf("the follower reads %d bytes, %v", n, err)
	}
	if mine, err := follower.Own(); !mine || err != nil || follower.Left() > 0 {
		t.Errorf("the follower would fetch %d bytes again: %v, %v", follower.Left(), mine, err)
	}
	if moved, err := f.MoveTo(target+"2", false); moved || err != nil {
		t.Errorf("moved twice: %v, %v", moved, err)
	}
	if fresh := open(t, d); fresh.Left() != int64(len(blob)) {
		t.Error("the folder still has the blob")
	}
	if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, blob) {
		t.Errorf("after a new file was begun: %d bytes, %v", len(got), err)
	}
}

// TestMoveToThere leaves what is there, and the blob where it was.
func TestMoveToThere(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "partial")
	d := In(folder)
	target := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(target, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := open(t, d)
	own(t, f)
	fill(t, f, 0, len(blob))
	f.Close()
	if moved, err := f.MoveTo(target, false); moved || err != nil {
		t.Errorf("%v, %v", moved, err)
	}
	if got, _ := os.ReadFile(target); string(got) != "another" {
		t.Errorf("the file that was there: %q", got)
	}
	files, err := filepath.Glob(filepath.Join(folder, "sha256:*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	if st, err := os.Stat(files[0]); err != nil || st.Mode().Perm()&0o200 == 0 {
		t.Errorf("its owner may not write to it any more: %v, %v", st.Mode(), err)
	}
	if again := open(t, d); again.Left() > 0 {
		t.Errorf("%d bytes are missing", again.Left())
	}
}
