package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/progress"
)

// Space watches the free space of one file system for all layers of a run that are
// written there. It reports an error before the disk is full, so that other programs
// can still write, and only if the rest of the run certainly does not fit.
//
// Space counts the bytes of blobs that are still to be downloaded. The content of a
// blob is at least as large as the blob. How much larger is not known beforehand.
// Space does not foresee everything: the kernel reports inodes that run out in the
// middle of a layer.
//
// A nil Space has no limit: it is for content that is written nowhere. A Space is safe for
// concurrent use.
type Space struct {
	o Options

	mu      sync.Mutex
	images  int
	blobs   map[digest.Digest]*expected
	granted int64     // bytes that may be written before the next statfs
	looked  time.Time // when they were granted
}

// Options are the parameters of a [Space].
type Options struct {
	// Dir is a directory of the file system.
	Dir string
	// Advice is the hint of errors: what the user can do if the space is too small.
	Advice string
	// Inodes is the least number of inodes that a layer needs. 0 means 1.
	Inodes uint64
	// Passing is set if the files of an image are removed when the image is complete.
	// Then images make space for each other, and only an image that is alone is
	// certain to need its space.
	Passing bool
}

// expected is a blob that some image needs.
type expected struct {
	images int
	left   int64 // bytes still to be downloaded
}

// One statfs(2) grants lookBytes, or half of what is free if that is less, for
// lookEvery. Other programs may fill the disk in that time.
const (
	lookBytes = 4 << 20
	lookEvery = 100 * time.Millisecond
)

// NewSpace returns a Space.
func NewSpace(o Options) *Space {
	o.Inodes = max(o.Inodes, 1)
	return &Space{o: o, blobs: make(map[digest.Digest]*expected)}
}

// Dir returns the directory whose file system is watched.
func (s *Space) Dir() string { return s.o.Dir }

// A Need is a blob that an image needs.
type Need struct {
	Digest digest.Digest
	Left   int64 // bytes still to be written
}

// Reserve counts the blobs of an image, before any of them is fetched. It returns an
// error if they do not fit beside the blobs of the other images. Otherwise the caller
// calls release when the image is complete or has failed.
func (s *Space) Reserve(needs []Need) (release func(), err error) {
	if s == nil {
		return func() {}, nil
	}
	free, err := stat(s.o.Dir)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images++
	distinct := make(map[digest.Digest]bool)
	for _, n := range needs {
		b := s.blobs[n.Digest]
		if b == nil {
			b = &expected{left: n.Left}
			s.blobs[n.Digest] = b
		}
		b.images++
		distinct[n.Digest] = true
	}
	bytes, inodes := s.due(free), uint64(len(distinct))*s.o.Inodes
	switch {
	case free.bytes < bytes:
		err = s.short("at least %s are needed, and %s are free at %s", progress.Bytes(bytes), progress.Bytes(free.bytes), s.o.Dir)
	case free.inodes < inodes && !(s.o.Passing && s.images > 1):
		err = s.short("at least %d inodes are needed, and %d are free at %s", inodes, free.inodes, s.o.Dir)
	}
	if err != nil {
		s.drop(needs)
		return nil, err
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(needs)
	}, nil
}

func (s *Space) drop(needs []Need) {
	s.images--
	for _, n := range needs {
		b := s.blobs[n.Digest]
		if b.images--; b.images == 0 {
			delete(s.blobs, n.Digest)
		}
	}
}

// SetLeft sets how many bytes of a blob are still to be downloaded.
func (s *Space) SetLeft(d digest.Digest, n int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blobs[d]; b != nil {
		b.left = n
	}
}

// Downloaded counts n more bytes of a blob as downloaded.
func (s *Space) Downloaded(d digest.Digest, n int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blobs[d]; b != nil {
		b.left = max(0, b.left-n) // several images may fetch it
	}
}

// Write reports whether n bytes of a layer's plain tar may be written. The caller
// asks before it writes them.
func (s *Space) Write(n int64) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n <= s.granted && time.Since(s.looked) < lookEvery {
		s.granted -= n
		return nil
	}
	free, err := stat(s.o.Dir)
	if err != nil {
		return err
	}
	due := s.due(free)
	if free.bytes-n < due {
		s.granted = 0
		return s.short("the disk would be full: at least %s are to be written yet, and %s are free at %s",
			progress.Bytes(n+min(due, math.MaxInt64-n)), progress.Bytes(free.bytes), s.o.Dir)
	}
	s.granted, s.looked = min((free.bytes-n-due)/2, lookBytes), time.Now()
	return nil
}

// Fits reports whether n bytes fit that the Space does not count.
func (s *Space) Fits(n int64) error {
	free, err := stat(s.o.Dir)
	if err != nil {
		return err
	}
	if free.bytes < n && !free.compresses {
		return s.short("%s are needed, and %s are free at %s", progress.Bytes(n), progress.Bytes(free.bytes), s.o.Dir)
	}
	return nil
}

// due returns the least number of bytes that are still to be written for the blobs
// that were not downloaded.
func (s *Space) due(free available) (n int64) {
	if free.compresses || s.o.Passing && s.images > 1 {
		return 0
	}
	for _, b := range s.blobs {
		// Content that does not compress grows a little: zlib's gzip adds five bytes
		// to 16 KiB. And the headers of a tar are not written to files.
		least := b.left - b.left/64
		n += min(least, math.MaxInt64-n) // a manifest may claim any size
	}
	return n
}

func (s *Space) short(format string, args ...any) error {
	return fault.WithHint(fault.New(fault.Failed, format, args...), "%s", s.o.Advice)
}

// Hint adds the advice of the Space to an error of its file system: one that is full,
// over a quota, read-only, or not writable for this user.
func (s *Space) Hint(err error) error {
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES} {
		if errors.Is(err, errno) {
			return fault.WithHint(err, "%s", s.o.Advice)
		}
	}
	return err
}

// Full reports whether an error says that there is no space left for this user: the
// file system is full or has no inodes left, or a quota is used up.
func Full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// MostPlain returns the most bytes that a layer may expand to. It stops decompression
// bombs: content that a later entry of the layer deletes fills no disk, and would keep
// the run busy for days.
func (s *Space) MostPlain() (int64, error) {
	if s == nil {
		return boundless, nil
	}
	free, err := stat(s.o.Dir)
	return 4 * min(max(free.total, 1<<30), math.MaxInt64/4), err
}

// boundless is the most that a layer may expand to where no file system sets a limit.
const boundless = 4 << 40

// expands is the ratio of plain and compressed bytes that FitsBlob assumes.
const expands = 4

// FitsBlob reports whether dir has space for a blob of n bytes, beside its content and the
// content of all other blobs that are expected. The directory need not exist.
func (s *Space) FitsBlob(dir string, n int64) bool {
	if s == nil {
		s = NewSpace(Options{})
	}
	free, err := stat(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		free, err = stat(dir)
	}
	if err != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	due := n
	for _, b := range s.blobs {
		due += min(b.left, math.MaxInt64/expands/2-due)
	}
	return due < math.MaxInt64/expands/2 && free.bytes-n > expands*due
}

// available is what a file system reports about its space.
type available struct {
	bytes, total int64  // free for this user, and in all
	inodes       uint64 // free
	compresses   bool   // files may take less space than they have bytes
}

func stat(dir string) (available, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return available{}, fmt.Errorf("free space of %s: %w", dir, err)
	}
	unit := int64(st.Frsize) //nolint:unconvert // types differ between platforms
	if unit == 0 {
		unit = int64(st.Bsize) //nolint:unconvert // see above
	}
	most := uint64(math.MaxInt64 / unit)                                                // a file system of a cloud may say that it has 8 EiB
	a := available{bytes: int64(min(uint64(st.Bavail), most)) * unit, inodes: st.Ffree} //nolint:unconvert // see above
	a.total = int64(min(st.Blocks, most)) * unit
	if st.Blocks == 0 { // it has no size of its own: a ramfs, a tmpfs with size=0
		a.bytes, a.total = 1<<60, 1<<60
	}
	if st.Files == 0 { // it makes inodes as it needs them
		a.inodes = 1 << 60
	}
	// No call reports it, so the type has to do: file systems that compress, and those
	// that stand for another file system, of another machine or program.
	switch uint32(st.Type) { //nolint:unconvert // see above
	case unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, zfsMagic, bcachefsMagic, ubifsMagic,
		unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.V9FS_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		a.compresses = true
	}
	return a, nil
}

// Magic numbers that x/sys does not have.
const (
	zfsMagic      = 0x2fc12fc1
	bcachefsMagic = 0xca451a4e
	ubifsMagic    = 0x24051905
)
