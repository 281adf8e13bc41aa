package overlay

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// ErrExists is returned by [Store.Begin] for a layer that is there by now.
var ErrExists = errors.New("the layer exists")

// Staged is a layer that is being made: [Staged.Clear] begins, and one of Commit
// and Abort ends it. Abort after Commit does nothing. Between Seal and Commit it
// can wait for as long as its process lives.
type Staged struct {
	s             *Store
	dir           string // what becomes overlay2/<cache-id>
	meta          string // what becomes layerdb/sha256/<chainID>
	chain, parent digest.Digest
	diffID        digest.Digest
	number        uint64 // among the sealed layers, 0 if it is not sealed
	mend          bool   // a layer that is there is to be replaced
	split         *os.File
	splitZip      *gzip.Writer
	splitBuf      *bufio.Writer
	ended         bool
}

// Begin starts to stage a layer. If another process is making the same layer, Begin calls
// waiting once, and waits for as long as ctx allows and any other process shows that it is
// alive. It returns [ErrExists] if the layer is in the store.
//
// From then on the layer and its parent are not removed, as with [Store.Use]. The parent need
// not be in the store before [Staged.Commit]. A process must not begin the same layer twice at a
// time.
func (s *Store) Begin(ctx context.Context, chain, parent, diffID digest.Digest, waiting func()) (*Staged, error) {
	st, err := s.begin(ctx, chain, parent, diffID, waiting)
	if err != nil {
		return nil, err
	}
	if _, err := s.Layer(chain); err == nil {
		s.locks.unlock(layerLock(chain))
		return nil, ErrExists
	}
	return st, nil
}

// begin locks the layer.
func (s *Store) begin(ctx context.Context, chain, parent, diffID digest.Digest, waiting func()) (*Staged, error) {
	for _, needed := range []digest.Digest{chain, parent} {
		if needed == "" {
			continue
		}
		if err := s.Use(ctx, needed); err != nil {
			return nil, err
		}
	}
	folder, err := s.folder()
	if err != nil {
		return nil, err
	}
	if err := s.locks.lock(ctx, layerLock(chain), waiting, s.pulse()); err != nil {
		return nil, err
	}
	id := randomID(8)
	return &Staged{
		s: s, chain: chain, parent: parent, diffID: diffID,
		dir: filepath.Join(folder, id), meta: filepath.Join(folder, id+"-meta"),
	}, nil
}

// Clear removes the files and metadata of an earlier attempt at this layer, and makes empty
// directories for new ones.
func (st *Staged) Clear() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("prepare a layer: %w", err)
		}
	}()
	if err := st.discard(); err != nil {
		return err
	}
	for dir, mode := range map[string]os.FileMode{st.dir: 0o710, st.meta: 0o700} {
		if err := mkdir(dir, mode); err != nil {
			return err
		}
	}
	if err := mkdir(st.Dir(), 0o755); err != nil {
		return err
	}
	st.split, err = os.OpenFile(filepath.Join(st.meta, "tar-split.json.gz"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	// The fastest level: these files are small, and read when an image is
	// pushed or saved.
	st.splitBuf = bufio.NewWriterSize(st.split, 64<<10)
	st.splitZip, err = gzip.NewWriterLevel(st.splitBuf, gzip.BestSpeed)
	return err
}

// Dir returns the directory for the layer's files.
func (st *Staged) Dir() string { return filepath.Join(st.dir, "diff") }

// TarSplit takes the layer's tar-split, as unpack.Extract writes it.
func (st *Staged) TarSplit() io.Writer { return st.splitZip }

// Wrote reports that n bytes of the layer's files were written, as unpack.Extract does. The disk
// works on them meanwhile, so that Commit waits less.
func (st *Staged) Wrote(n int) { st.s.durable.disk.Wrote(n) }

// Seal ends the layer's tar-split: its files are complete. Only then Tar works.
func (st *Staged) Seal() error {
	if st.split == nil {
		return nil
	}
	st.number = st.s.durable.seal()
	err := errors.Join(st.splitZip.Close(), st.splitBuf.Flush(), st.split.Chmod(0o644), st.split.Close())
	// Layers wait for the rest of their image: the compressor is too big for that.
	st.split, st.splitZip, st.splitBuf = nil, nil, nil
	return err
}

// Tar makes the layer's tar from its files, as [Reader.Tar] does. What is opened
// stays readable when the layer is committed meanwhile, but Tar itself and Commit
// must not run at the same time.
func (st *Staged) Tar() (io.ReadCloser, error) {
	return openTar(filepath.Join(st.meta, "tar-split.json.gz"), st.Dir())
}

// Prove returns an error if the layer's tar cannot be made of its files and tar-split,
// as docker save and docker push do. It reads all of the layer. A name that occurs twice is not
// noticed: unpack.Extract makes no such tar-split.
func (st *Staged) Prove(ctx context.Context) error {
	tar, err := st.Tar()
	if err != nil {
		return err
	}
	defer tar.Close()
	stop := context.AfterFunc(ctx, func() { tar.Close() })
	defer stop()
	sum := st.diffID.Verifier()
	if _, err = io.Copy(sum, tar); err == nil && !sum.Verified() {
		err = errors.New("they make another tar")
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fault.WithHint(
			fault.New(fault.Failed, "the layer replaces files that it has brought itself, and Docker could not save or push it: %w", err),
			"--rootfs extracts it; the image would have to be built again for Docker")
	}
	return nil
}

// Commit makes the layer visible. Its parent must be in the store. size is in bytes, as
// unpack.Stats has it.
//
// Commit first waits until the layer's files are on the disk, unless the store was opened with
// NoSync. One wait is enough for all layers that were sealed before it. After an error the layer
// is not visible.
func (st *Staged) Commit(ctx context.Context, size int64) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("commit layer %s: %w", st.diffID, err)
		}
		err = errors.Join(err, st.end())
	}()
	if err := st.Seal(); err != nil {
		return err
	}
	if err := st.s.durable.layer(ctx, st.number); err != nil {
		return err
	}
	cacheID, short, err := st.writeLinks()
	if err != nil {
		return err
	}
	files := []struct{ name, content string }{
		{"cache-id", cacheID},
		{"diff", st.diffID.String()},
		{"size", strconv.FormatInt(size, 10)},
	}
	if st.parent != "" {
		files = append(files, struct{ name, content string }{"parent", st.parent.String()})
	}
	for _, f := range files {
		if err := writePlain(filepath.Join(st.meta, f.name), f.content); err != nil {
			return err
		}
	}

	// An entry that is empty after a power failure would block the layer for every process.
	// The first of these flushes costs as much as all of them together.
	if err := errors.Join(syncFiles(st.meta), syncFiles(st.dir)); err != nil {
		return err
	}

	s := st.s
	if err := s.stillOurs(ctx); err != nil {
		return err
	}
	if err := st.publish(cacheID, short); err != nil {
		return errors.Join(err, s.forgetPending(cacheID))
	}
	// The layer is there. A note that stays all the same tells the next Open so.
	_ = os.Remove(s.path("fastpull/pending", cacheID))
	return nil
}

// publish moves the layer to where it is looked for, its files first.
func (st *Staged) publish(cacheID, short string) error {
	entry := st.s.path("image/overlay2/layerdb/sha256", st.chain.Encoded())
	steps := []step{
		{"note", func() error { return st.s.announce(cacheID, short) }},
		{"files", func() error { return os.Rename(st.dir, st.s.path("overlay2", cacheID)) }},
		{"link", func() error { return st.s.link(cacheID, short) }},
		{"aside", func() error {
			// Begin found no such layer. What stands here nevertheless is one that
			// lost its files or is damaged, and would be in the way.
			if err := os.Rename(entry, st.meta+"-old"); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}},
		{"entry", func() error { return os.Rename(st.meta, entry) }},
	}
	if st.mend {
		steps = st.replace(cacheID, short, entry)
	}
	return perform(steps)
}

// writeLinks writes the files that tie the layer into its chain: link has its short ID, and
// lower has those of all layers below it. If layers above it exist already, which lost it, the
// layer gets the short ID that they refer to.
func (st *Staged) writeLinks() (cacheID, short string, err error) {
	cacheID, short = randomID(32), cmp.Or(st.s.shortOf(st.chain), shortID())
	if err := writePlain(filepath.Join(st.dir, "link"), short); err != nil {
		return "", "", err
	}
	if st.parent == "" {
		return cacheID, short, nil
	}
	p, err := st.s.Layer(st.parent)
	if err != nil {
		return "", "", fmt.Errorf("its parent: %w", err)
	}
	lower, err := st.s.lowers(p)
	if err != nil {
		return "", "", err
	}
	if err := writePlain(filepath.Join(st.dir, "lower"), strings.Join(lower, ":")); err != nil {
		return "", "", err
	}
	if err := mkdir(filepath.Join(st.dir, "work"), 0o700); err != nil {
		return "", "", err
	}
	if p.below {
		return cacheID, short, nil // Docker's own; see move
	}
	return cacheID, short, st.s.markCommitted(p)
}

// markCommitted notes that a layer has another one on top of it.
func (s *Store) markCommitted(l Layer) error {
	return os.WriteFile(s.path("overlay2", l.CacheID, "committed"), nil, 0o600)
}

// Abort throws the layer away.
func (st *Staged) Abort() error {
	if st.ended {
		return nil
	}
	return st.end()
}

func (st *Staged) end() error {
	st.ended = true
	defer st.s.locks.unlock(layerLock(st.chain))
	return st.discard()
}

func (st *Staged) discard() error {
	if st.split != nil {
		_ = st.split.Close() // of no use any more
		st.split = nil
	}
	return st.s.throwAway([]string{st.dir, st.dir + "-old", st.meta, st.meta + "-old"})
}

// forgetPending undoes the first steps of a commit.
func (s *Store) forgetPending(cacheID string) error {
	note := s.path("fastpull/pending", cacheID)
	data, err := os.ReadFile(note)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// As if its process had died: what sweeps after crashes sweeps here too.
	_, short, _ := strings.Cut(string(data), " ")
	if err := s.writeNote(cacheID, " "+short); err != nil {
		return err
	}
	return s.sweepPending(cacheID)
}

func writePlain(name, content string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Chmod(0o644), f.Close())
}

// syncFiles brings the files in dir to the disk, but not those in its folders.
func syncFiles(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// shortID returns 26 characters of base32, as Docker's overlay2 driver names
// the symlinks in l/.
func shortID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
}
