package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// target makes a mount point that is free again at the end.
func target(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestMount mounts images of one layer, of some, and of as many as there may be.
// The store's path has the characters that mean something in mount options.
func TestMount(t *testing.T) {
	for _, n := range []int{1, 3, 125} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			s := openTest(t, filepath.Join(t.TempDir(), `a:b,c\d e`))
			img := putChain(t, s, "x", n)
			dir := target(t)
			if err := s.Mount(img, dir); err != nil {
				t.Fatal(err)
			}
			for _, i := range []int{1, (n + 1) / 2, n} {
				if got, want := read(t, dir, fmt.Sprintf("x-%d", i)), fmt.Sprintf("layer %d of x", i); got != want {
					t.Errorf("file of layer %d: %q", i, got)
				}
			}
			if err := os.WriteFile(dir+"/new", nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("a write: %v", err)
			}
			if err := os.Remove(dir + "/x-1"); !errors.Is(err, unix.EROFS) {
				t.Errorf("a removal: %v", err)
			}
			if err := Unmount(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			if got := tree(t, dir); len(got) != 1 {
				t.Errorf("after Unmount: %q", got)
			}
		})
	}
}

// TestMountTopWins: of a file that several layers have, the highest one's shows.
func TestMountTopWins(t *testing.T) {
	s := openTest(t, t.TempDir())
	var parent digest.Digest
	var diffIDs []digest.Digest
	for _, content := range []string{"low", "middle", "top"} {
		plain := tarOf("file", content)
		chain, err := put(s, parent, plain)
		if err != nil {
			t.Fatal(err)
		}
		parent, diffIDs = chain, append(diffIDs, digest.FromBytes(plain))
	}
	dir := target(t)
	if err := s.Mount(imageOf(t, "x", diffIDs...), dir); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "file"); got != "top" {
		t.Errorf("the file has %q", got)
	}
}

// TestMountLeavesNoTrace: the working directory that a mount needs is seen by
// nobody else, and the thread that has it goes away. Several at once are fine.
func TestMountLeavesNoTrace(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 2)
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 8)
	for range 8 {
		dir := target(t)
		go func() { done <- s.Mount(img, dir) }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if wd, err := os.Readlink("/proc/self/cwd"); err != nil || wd != before {
		t.Errorf("the process is in %s, was in %s", wd, before)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var inside []string
		tasks, err := filepath.Glob("/proc/self/task/*/cwd")
		if err != nil || len(tasks) == 0 {
			t.Fatal("no threads to look at", err)
		}
		for _, cwd := range tasks {
			if to, err := os.Readlink(cwd); err == nil && strings.HasPrefix(to, s.dir) {
				inside = append(inside, cwd)
			}
		}
		if len(inside) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("threads that are still there: %v", inside)
		}
	}
}

func TestMountFails(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 2)
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	none := filepath.Join(t.TempDir(), "none")
	if err := s.Mount(img, none); fault.KindOf(err) != fault.NotFound || fault.HintOf(err) == "" || !strings.Contains(err.Error(), none) {
		t.Errorf("Mount at %s: %v", none, err)
	}
	if err := s.Mount(img, file); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), file+": it is not a directory") {
		t.Errorf("Mount at %s: %v", file, err)
	}
	dir := target(t)
	missing := imageOf(t, "y", img.Layers[0].DiffID, digest.FromString("missing"))
	if err := s.Mount(missing, dir); fault.KindOf(err) != fault.NotFound || !strings.Contains(fault.HintOf(err), "pull") {
		t.Errorf("an image without its top layer: %v", err)
	}
	if err := s.Mount(imageOf(t, "empty"), dir); err == nil || !strings.Contains(err.Error(), "no layers") {
		t.Errorf("an image without layers: %v", err)
	}
	if err := os.RemoveAll(s.path("overlay2/l")); err != nil {
		t.Fatal(err)
	}
	if err := s.Mount(img, dir); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), img.ID.String()) {
		t.Errorf("layers that the kernel does not find: %v", err)
	}
}

func TestUnmount(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 1)
	dir := target(t)
	for name, path := range map[string]string{
		"nothing there":   filepath.Join(dir, "none"),
		"nothing mounted": dir,
	} {
		if err := Unmount(t.Context(), path); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := filepath.Join(t.TempDir(), "tmpfs")
	mountTmpfs(t, other)
	if err := Unmount(t.Context(), other); fault.KindOf(err) != fault.NotFound {
		t.Errorf("what is no overlay: %v", err)
	}
	if err := os.WriteFile(other+"/still", nil, 0o600); err != nil {
		t.Error(err)
	}

	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := s.Mount(img, link); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, "x-1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Unmount(t.Context(), link); !errors.Is(err, unix.EBUSY) || fault.HintOf(err) == "" {
		t.Errorf("one in use: %v", err)
	}
	f.Close()
	if err := Unmount(t.Context(), filepath.Join(link, "x-1")); fault.KindOf(err) != fault.NotFound {
		t.Errorf("a file inside: %v", err)
	}
	if err := Unmount(t.Context(), link); err != nil {
		t.Errorf("through the symlink by which it was mounted: %v", err)
	}
}

// TestTar makes the tar of a layer again, and of one that is not committed.
func TestTar(t *testing.T) {
	s := openTest(t, t.TempDir())
	plain := tarOf("dir/file", strings.Repeat("content ", 1<<15))
	plain = append(plain, make([]byte, 7*512)...) // padding that no file tells of
	st, size, err := begin(s, "", plain)
	if err != nil {
		t.Fatal(err)
	}
	again := func(r io.ReadCloser, err error) ([]byte, error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	if err := st.Seal(); err != nil {
		t.Fatal(err)
	}
	if got, err := again(st.Tar()); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("staged: %d bytes of %d, %v", len(got), len(plain), err)
	}
	if err := st.Commit(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	l, err := s.Layer(digest.FromBytes(plain))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again(s.Tar(l)); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("committed: %d bytes of %d, %v", len(got), len(plain), err)
	}

	x, err := s.IndexTar(t.Context(), l, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int{0, 1, 511, 512, 513, 5000, len(plain) - 7*512 - 1, len(plain) - 1, len(plain)} {
		if got, err := again(x.Open(int64(off))); err != nil || !bytes.Equal(got, plain[off:]) {
			t.Errorf("from byte %d: %d bytes, %v", off, len(got), err)
		}
	}

	// Closing it early ends it.
	r, err := s.Tar(l)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 700)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a Read after Close: %v", err)
	}

	file := filepath.Join(s.DiffDir(l), "dir/file")
	for name, change := range map[string]func() error{
		"other content": func() error { return os.WriteFile(file, []byte(strings.Repeat("CONTENT ", 1<<15)), 0o644) },
		"shorter":       func() error { return os.Truncate(file, 100) },
		"gone":          func() error { return os.Remove(file) },
	} {
		write(t, file, strings.Repeat("content ", 1<<15))
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if _, err := again(s.Tar(l)); err == nil {
			t.Errorf("%s: nothing was noticed", name)
		}
		if name != "other content" { // whose checksum is that of the whole
			if _, err := again(x.Open(5000)); err == nil {
				t.Errorf("%s: nothing was noticed in a part", name)
			}
		}
	}
	split := s.path("image/overlay2/layerdb/sha256", l.ChainID.Encoded(), "tar-split.json.gz")
	write(t, split, "no gzip")
	if _, err := again(s.Tar(l)); err == nil || !strings.Contains(err.Error(), split) {
		t.Errorf("a tar-split that is damaged: %v", err)
	}
	if err := os.Remove(split); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tar(l); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no tar-split: %v", err)
	}
}

// TestMountCopies has other mount namespaces with copies of a mount. Unmount waits for their end. As
// long as one is there, the image stays.
func TestMountCopies(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 2)
	record(t, s, img, "x:1")
	dir := target(t)
	mountAndCopy := func() (pid string, end func()) {
		if err := s.Mount(img, dir); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(need.Program(t, "unshare"), "--mount", "sh", "-c", "echo made && exec cat")
		in, ierr := cmd.StdinPipe()
		out, oerr := cmd.StdoutPipe()
		if err := errors.Join(ierr, oerr, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("made\n"))); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(cmd.Process.Pid), sync.OnceFunc(func() { in.Close(); cmd.Wait() })
	}

	pid, end := mountAndCopy()
	defer end()
	begun := time.Now()
	if err := Unmount(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("Unmount waited %v, want 2 s", took)
	}
	_, err := s.Remove(t.Context(), "x:1", RemoveOptions{})
	if err == nil || !strings.Contains(err.Error(), "is mounted at "+dir+", in the mount namespace of process "+pid) ||
		!strings.Contains(fault.HintOf(err), "nsenter -t "+pid+" -m umount "+dir) {
		t.Errorf("Remove: %v\nhint: %s", err, fault.HintOf(err))
	}
	end()

	_, end = mountAndCopy()
	time.AfterFunc(200*time.Millisecond, end)
	if err := Unmount(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Remove(t.Context(), "x:1", RemoveOptions{}); err != nil {
		t.Error(err)
	}
}
