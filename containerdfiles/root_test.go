package containerdfiles

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/containerdapi"
)

// prefix begins the names of leases in tests.
const prefix = "test-"

// open opens a root, until the end of the test.
func open(t *testing.T, dir string, o Options) *Root {
	t.Helper()
	r, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// lease returns a namespace of the root with a new lease.
func (r *Root) lease(t *testing.T) *Store {
	t.Helper()
	s := r.In("ns")
	id, err := s.CreateLease(t.Context(), prefix, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return s.Leased(id)
}

// put writes a blob.
func (s *Store) put(t *testing.T, data string, labels map[string]string) digest.Digest {
	t.Helper()
	d := digest.FromString(data)
	w, err := s.WriteBlob(t.Context(), "ref-"+d.String(), d, int64(len(data)))
	if err == nil {
		_, err = w.ReadFrom(strings.NewReader(data))
	}
	if err == nil {
		err = w.Commit(d, labels)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// snapshot commits one with a file, and returns its directory.
func (s *Store) snapshot(t *testing.T, name, parent string) string {
	t.Helper()
	dir := s.stage(t, "stage "+name)
	if err := s.Snapshots().Commit(t.Context(), name, "stage "+name, parent, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stage prepares a snapshot with a file, and returns its directory.
func (s *Store) stage(t *testing.T, key string) string {
	t.Helper()
	mounts, err := s.Snapshots().Prepare(t.Context(), key, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mounts[0].Source, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return mounts[0].Source
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestBlobs writes, continues, labels and reads blobs.
func TestBlobs(t *testing.T) {
	ctx := t.Context()
	r := open(t, filepath.Join(t.TempDir(), "a/b"), Options{})
	s := r.lease(t)
	d := s.put(t, "content", map[string]string{"one": "1"})
	if err := s.LabelBlob(ctx, d, map[string]string{"two": "2"}); err != nil {
		t.Fatal(err)
	}
	got, err := s.StatBlob(ctx, d)
	if err != nil || got.Size != 7 || got.Labels["one"] != "1" || got.Labels["two"] != "2" {
		t.Errorf("the blob is %+v, %v", got, err)
	}
	if data, err := s.ReadBlob(ctx, d, 7); err != nil || string(data) != "content" {
		t.Errorf("its content: %q, %v", data, err)
	}
	if _, err := s.ReadBlob(ctx, d, 6); err == nil {
		t.Error("more than the limit was read")
	}
	rc, err := s.OpenBlob(ctx, d)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(rc); err != nil || buf.String() != "content" || rc.Close() != nil {
		t.Errorf("read as a stream: %q, %v", &buf, err)
	}
	if err := rc.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if _, err := s.WriteBlob(ctx, "again", d, 7); !errdefs.IsAlreadyExists(err) {
		t.Errorf("a blob that is there: %v", err)
	}
	if _, err := r.In("other").StatBlob(ctx, d); !errdefs.IsNotFound(err) {
		t.Errorf("in another namespace: %v", err)
	}

	next := digest.FromString("first second")
	part := func(text string) *Writer {
		t.Helper()
		w, err := s.WriteBlob(ctx, "part", next, 12)
		if err == nil {
			_, err = w.ReadFrom(strings.NewReader(text))
		}
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := part("first ")
	if _, err := s.WriteBlob(ctx, "part", next, 12); !errdefs.IsUnavailable(err) {
		t.Errorf("two writers of a ref: %v", err)
	}
	w.Close()
	if w = part("second"); w.Offset() != 12 {
		t.Errorf("the writer is at %d", w.Offset())
	}
	if err := w.Commit(next, nil); err != nil {
		t.Error(err)
	}
	wrong := digest.FromString("what was expected")
	w, err = s.WriteBlob(ctx, "wrong", wrong, 0)
	if err == nil {
		_, err = w.ReadFrom(strings.NewReader("x"))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Restart(); err != nil || w.Offset() != 0 {
		t.Errorf("after a restart at %d: %v", w.Offset(), err)
	}
	if _, err := w.ReadFrom(strings.NewReader("something else")); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(wrong, nil); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("another content: %v", err)
	}
	if err := errors.Join(s.AbortWrite(ctx, "wrong"), s.AbortWrite(ctx, "none")); err != nil {
		t.Error(err)
	}
}

// TestMovedBlob commits a file that was moved into the content store.
func TestMovedBlob(t *testing.T) {
	r := open(t, t.TempDir(), Options{})
	s := r.lease(t)
	d := digest.FromString("moved")
	path := filepath.Join(r.Content(), "blobs/sha256", d.Encoded())
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("moved"), 0o644)); err != nil {
		t.Fatal(err)
	}
	w, err := s.WriteBlob(t.Context(), "ref", d, 5)
	if err != nil || w.Offset() != 5 {
		t.Fatalf("the writer is at %d, %v", w.Offset(), err)
	}
	if err := w.Commit(d, map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.StatBlob(t.Context(), d); err != nil || got.Size != 5 || got.Labels["a"] != "b" {
		t.Errorf("the blob is %+v, %v", got, err)
	}
}

// TestLease keeps what an image has when the lease is deleted, and nothing else.
func TestLease(t *testing.T) {
	ctx := t.Context()
	r := open(t, t.TempDir(), Options{})
	s := r.lease(t)
	base, top, loose := s.snapshot(t, "base", ""), s.snapshot(t, "top", "base"), s.snapshot(t, "loose", "base")
	if got, err := s.Snapshots().Stat(ctx, "top"); err != nil || got != (containerdapi.Snapshot{Parent: "base", Committed: true}) {
		t.Errorf("a snapshot with a parent is %+v, %v", got, err)
	}
	d := s.put(t, "kept", map[string]string{"containerd.io/gc.ref.snapshot.overlayfs": "top"})
	garbage := s.put(t, "garbage", nil)
	target := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 4}
	elsewhere := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: garbage, Size: 7}
	for _, to := range []ocispec.Descriptor{elsewhere, target, target} {
		if err := s.SetImages(ctx, []string{"one", "two"}, to, map[string]string{"label": to.Digest.Encoded()[:5]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteLease(ctx, s.lease, true); err != nil {
		t.Fatal(err)
	}
	if !there(base) || !there(top) || there(loose) {
		t.Errorf("the snapshots of the image are there: %v, %v, and another one: %v", there(base), there(top), there(loose))
	}
	if _, err := s.StatBlob(ctx, d); err != nil {
		t.Error(err)
	}
	if there(filepath.Join(r.Content(), "blobs/sha256", garbage.Encoded())) {
		t.Error("a blob of no image is there")
	}
}

// TestDeadProcess opens a root that a process was killed on: its blobs are there, what it had
// committed as well, and what it had not is gone. At the end all of it is.
func TestDeadProcess(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	r, err := Open(ctx, dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := r.lease(t)
	done, staged, removed := s.snapshot(t, "done", ""), s.stage(t, "staged"), s.stage(t, "removed")
	d := s.put(t, "blob", nil)
	if err := errors.Join(s.Snapshots().Remove(ctx, "removed"), r.Close()); err != nil {
		t.Fatal(err)
	}
	// The next snapshot was about to be entered, and another one to be made.
	unnamed, making := filepath.Join(r.Snapshots(), "4"), filepath.Join(r.Snapshots(), "new-1")
	if err := errors.Join(os.MkdirAll(filepath.Join(unnamed, "fs"), 0o755), os.MkdirAll(filepath.Join(making, "fs"), 0o755)); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir, Options{Lease: prefix})
	if !there(done) || there(staged) || there(removed) || there(unnamed) || there(making) {
		t.Errorf("there are the committed snapshot: %v, the staged one: %v, the removed one: %v, those without an entry: %v, %v",
			there(done), there(staged), there(removed), there(unnamed), there(making))
	}
	s = r.lease(t)
	if _, err := s.StatBlob(ctx, d); err != nil {
		t.Error(err)
	}
	if err := s.DeleteLease(ctx, s.lease, false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StatBlob(ctx, d); !errdefs.IsNotFound(err) || there(done) {
		t.Errorf("at the end there are the blob: %v, the snapshot: %v", err, there(done))
	}
	if len(r.stale) > 0 {
		t.Errorf("leases are left: %v", r.stale)
	}
}

// TestDeadAtFirst opens a root whose process was killed when it made the first snapshot.
func TestDeadAtFirst(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.lease(t)
	unnamed := filepath.Join(r.Snapshots(), "1")
	if err := errors.Join(os.MkdirAll(filepath.Join(unnamed, "fs"), 0o755), r.Close()); err != nil {
		t.Fatal(err)
	}
	r = open(t, dir, Options{Lease: prefix})
	if there(unnamed) {
		t.Error("the directory is there")
	}
	r.lease(t).snapshot(t, "first", "")
}

// TestInUse names the process that has a root open.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{}).lease(t).snapshot(t, "done", "")
	for _, o := range []Options{{}, {ReadOnly: true}} {
		_, err := Open(t.Context(), dir, o)
		var in *InUse
		if !errors.As(err, &in) || in.Pid != os.Getpid() || in.Name == "" {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestLockOwner reads what the kernel tells of locks.
func TestLockOwner(t *testing.T) {
	const text = `1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF
2: FLOCK  ADVISORY  WRITE 12 08:02:77 0 EOF
3: FLOCK  ADVISORY  WRITE 13 08:01:78 0 EOF
4: FLOCK  ADVISORY  WRITE 14 08:01:77 0 EOF
4: -> FLOCK  ADVISORY  WRITE 15 08:01:77 0 EOF
5: FLOCK  ADVISORY  WRITE 0 08:01:79 0 EOF
`
	for inode, want := range map[uint64]int{77: 14, 78: 13, 79: 0, 80: 0} {
		if got := lockOwner(bufio.NewScanner(strings.NewReader(text)), unix.Mkdev(8, 1), inode); got != want {
			t.Errorf("inode %d: %d, want %d", inode, got, want)
		}
	}
}

// TestReadOnly looks at a root, and changes nothing in it.
func TestReadOnly(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	root := filepath.Join(dir, "root")
	if _, err := Open(ctx, root, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) || there(root) {
		t.Errorf("without a root: %v, made: %v", err, there(root))
	}
	d := fill(ctx, t, root)
	before := times(t, root)
	r := open(t, root, Options{ReadOnly: true})
	s := r.In("ns")
	if data, err := s.ReadBlob(ctx, d, 9); err != nil || string(data) != "blob" {
		t.Errorf("a blob: %q, %v", data, err)
	}
	if got, err := s.Snapshots().Stat(ctx, "done"); err != nil || !got.Committed {
		t.Errorf("a snapshot: %+v, %v", got, err)
	}
	if _, err := s.Snapshots().Stat(ctx, "none"); !errdefs.IsNotFound(err) {
		t.Errorf("a snapshot that is not there: %v", err)
	}
	if after := times(t, root); after != before {
		t.Errorf("it was changed:\n%s\n%s", before, after)
	}
}

// fill makes a root with a blob and a snapshot.
func fill(ctx context.Context, t *testing.T, root string) digest.Digest {
	t.Helper()
	r, err := Open(ctx, root, Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	s := r.lease(t)
	s.snapshot(t, "done", "")
	d := s.put(t, "blob", nil)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return d
}

// times returns the files below dir with the times of their change.
func times(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			b.WriteString(path + " " + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
