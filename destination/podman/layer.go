//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/tmpfile"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/unpack"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// wanted is a layer that an image of the run needs, and its content.
type wanted struct {
	image.Layer
	id, parent string // as Podman names them
	content    *destination.Content
}

// made is a layer that is in the store, or staged and ready to be committed.
type made struct {
	wanted
	s *store

	mu  sync.Mutex
	out *graphdriver.DriverWithDifferOutput // nil if it is in the store
	err error                               // of the commit
}

// need waits until the layer is in the store, or staged.
func (s *store) need(ctx context.Context, l wanted) (*made, error) {
	m, _, err := s.layers.Do(ctx, s.run, l.ChainID, l.content.Origin(), func(ctx context.Context) (*made, error) {
		m, err := s.make(ctx, l)
		s.space.SetLeft(l.Blob.Digest, 0) // however the layer came
		if err == nil && m.out == nil {
			l.content.Task().Phase(progress.Exists)
		} else {
			l.content.End(ctx, err)
		}
		return m, err
	})
	return m, err
}

// make stages a layer, or finds it in the store.
func (s *store) make(ctx context.Context, l wanted) (*made, error) {
	l.content.Task() // shown while it waits
	m := &made{wanted: l, s: s}
	has, err := s.has(ctx, l.id)
	if has || err != nil {
		return m, err
	}
	err = l.content.Plain(ctx, destination.How{Space: s.space}, func(tar io.Reader) error {
		return errors.Join(m.abort(), m.stage(ctx, tar))
	})
	if err != nil {
		return nil, errors.Join(err, m.abort())
	}
	return m, nil
}

// has reports whether a layer is in the store, or in one of its additional image stores.
func (s *store) has(ctx context.Context, id string) (bool, error) {
	_, err := locked(ctx, s, func() (*storage.Layer, error) { return s.s.Layer(id) })
	if errors.Is(err, storage.ErrLayerUnknown) {
		return false, nil
	}
	return err == nil, err
}

// stage extracts a tar into a new staging directory of fastpull's own.
//
// The library makes a staging directory, too, which is not used: each command of Podman 4
// removes all such directories at its end, also those of other processes. The library gets
// fastpull's directory afterwards.
func (m *made) stage(ctx context.Context, tar io.Reader) (err error) {
	d := &differ{ctx: ctx, m: m, tar: &counter{r: tar}}
	if d.staging, err = os.MkdirTemp(m.s.staging.Path, ""); err != nil {
		return err
	}
	var out *graphdriver.DriverWithDifferOutput
	for range 5 { // the library's own directory may be removed before it is locked
		out, err = m.s.s.PrepareStagedLayer(nil, d)
		if d.begun || !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if out != nil && out.Target != "" {
		err = errors.Join(err, m.s.discard(&graphdriver.DriverWithDifferOutput{Target: out.Target}))
	}
	if err != nil {
		return errors.Join(err, tmpfile.RemoveAll(d.staging))
	}
	out.Target = filesOf(d.staging)
	m.mu.Lock()
	m.out = out
	m.mu.Unlock()
	return nil
}

// filesOf returns the directory with the files of a layer, in its staging directory.
func filesOf(staging string) string { return filepath.Join(staging, "dir") }

// splitOf returns the file with the tar-split data of a layer, in its staging directory. It is
// open only while it is written or read: any number of layers can wait until their images are
// complete.
func splitOf(staging string) string { return filepath.Join(staging, "tar-split") }

// waits reports whether the layer is staged, and has no name in the store.
func (m *made) waits() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out != nil
}

// commit gives the layer its name in the store. Its parent has to have one. Once begun, it goes on
// for the time of commitGrace after the end of ctx: the library cannot be told to stop.
func (m *made) commit(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out == nil {
		return m.err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, done := destination.Outlive(ctx, func() bool { return true }, commitGrace)
	defer done()
	has, err := m.s.has(ctx, m.id)
	if err == nil && has { // another process was first
		return m.drop()
	}
	if err == nil {
		size := m.Blob.Size
		args := storage.ApplyStagedLayerOptions{
			ID: m.id, ParentLayer: m.parent, DiffOutput: m.out, DiffOptions: &graphdriver.ApplyDiffWithDifferOpts{},
			LayerOptions: &storage.LayerOptions{OriginalDigest: m.Blob.Digest, OriginalSize: &size, UncompressedDigest: m.DiffID},
		}
		staging := filepath.Dir(m.out.Target)
		if m.out.TarSplit, err = os.Open(splitOf(staging)); err == nil { // the library closes it
			_, err = locked(ctx, m.s, func() (*storage.Layer, error) { return m.s.s.ApplyStagedLayer(args) })
		}
		if err == nil {
			m.out = nil
			_ = tmpfile.RemoveAll(staging) // the library has moved the files
			return nil
		}
	}
	m.err = fmt.Errorf("layer %s: add it to Podman's store: %w", m.Blob.Digest, err)
	return errors.Join(m.err, m.drop())
}

// abort throws the layer away, unless it is in the store.
func (m *made) abort() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.drop()
}

// drop removes what is staged. While a call of the library still waits for the store's
// lock, it leaves that to the next run.
func (m *made) drop() error {
	out := m.out
	m.out = nil
	if out == nil || m.s.isStuck() {
		return nil
	}
	return m.s.discard(out)
}

// discard removes a staging directory. If the store stays locked it leaves that to the next run.
func (s *store) discard(out *graphdriver.DriverWithDifferOutput) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.run), noteAfter)
	defer cancel()
	_, err := locked(ctx, s, func() (struct{}, error) { return struct{}{}, s.s.CleanupStagedLayer(out) })
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// rootMode is the mode of a layer's root directory that the layer does not name, as the library
// makes it.
const rootMode = 0o555

// differ makes the files of a layer for the library.
type differ struct {
	ctx     context.Context
	m       *made
	tar     *counter
	staging string // the directory of the layer
	begun   bool   // the tar is being read
}

var _ graphdriver.Differ = (*differ)(nil)

// Close implements [graphdriver.Differ].
func (d *differ) Close() error { return nil }

// ApplyDiff implements [graphdriver.Differ].
func (d *differ) ApplyDiff(_ string, o *archive.TarOptions, of *graphdriver.DifferOptions) (out graphdriver.DriverWithDifferOutput, err error) {
	d.begun = true
	if o.ForceMask != nil || of.Format != graphdriver.DifferOutputFormatDir {
		return out, fault.New(fault.Failed, "Podman's store keeps layers in a form that fastpull does not write")
	}
	var form whiteout.Form = whiteout.Overlay{User: o.InUserNS}
	var names whiteout.Deletions
	if o.WhiteoutFormat == archive.AUFSWhiteoutFormat || d.m.s.mounted() { // for fuse-overlayfs
		form = &names
	}
	dir := filesOf(d.staging)
	if err := os.Mkdir(dir, rootMode); err != nil {
		return out, err
	}
	split, err := os.OpenFile(splitOf(d.staging), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return out, err
	}
	defer split.Close()
	lines := bufio.NewWriterSize(split, 64<<10)
	stats, err := unpack.Extract(d.ctx, d.tar, dir, unpack.ExtractOptions{
		Whiteouts: form, TarSplit: lines, Wrote: d.m.s.disk.Wrote,
		Rootless: d.m.s.env.Rootless(), Names: d.m.s.env.Names,
	})
	if err == nil {
		err = errors.Join(names.WriteNames(d.ctx, dir), lines.Flush(), split.Close())
	}
	if err != nil {
		return out, err
	}
	d.m.s.env.LeftOut.Add(stats)
	if stats.Root != nil {
		if out.RootDirMode, err = applyRoot(dir, stats.Root, d.m.s.env.Rootless()); err != nil {
			return out, err
		}
	}
	out.Differ, out.Size = d, d.tar.n
	out.UncompressedDigest, out.CompressedDigest = d.m.DiffID, d.m.Blob.Digest
	out.UIDs, out.GIDs = stats.UIDs, stats.GIDs
	return out, nil
}

// mounted reports whether Podman mounts the layers of the store by a program, fuse-overlayfs.
// The library notes it in the store. It heeds the note only if it finds the program.
func (s *store) mounted() bool {
	note, err := os.ReadFile(filepath.Join(s.root, driver, ".has-mount-program"))
	return err == nil && string(note) == "true"
}

// applyRoot gives the root directory what its entry says.
func applyRoot(dir string, root *unpack.Root, rootless bool) (*os.FileMode, error) {
	err := os.Lchown(dir, root.UID, root.GID)
	if err != nil && !rootless {
		return nil, err
	}
	if err := unix.Chmod(dir, root.Mode); err != nil {
		return nil, err
	}
	if err := os.Chtimes(dir, root.ModTime, root.ModTime); err != nil {
		return nil, err
	}
	st, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	mode := st.Mode()
	return &mode, nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
