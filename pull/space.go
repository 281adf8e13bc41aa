package pull

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/progress"
)

// space watches the room that a run has in a file system, for all layers that go
// there together. It speaks before the disk is full, for the sake of others who
// write to it, and only when the rest certainly does not fit: what it goes by are
// the bytes of blobs that are yet to come, and a blob is no larger than what is
// made of it. How much larger that will be nobody knows before.
//
// What it cannot foresee, such as inodes that run out in the middle of a layer, is
// left to the kernel.
type space struct {
	dir    string
	advice string // what the user can do if there is too little
	inodes uint64 // the least that a layer takes
	// passing says that what is written goes away when its image is done: then
	// images make room for each other, and only one alone can be sure to need it.
	passing bool

	mu      sync.Mutex
	images  int
	blobs   map[digest.Digest]*expected
	granted int64     // bytes that may be written before the next look
	looked  time.Time // when it was granted
}

// expected is a blob that some image needs.
type expected struct {
	images int
	left   int64 // bytes that have not come
}

// A look is one statfs(2). Between two, that many bytes may be written, or half of
// what is free if that is less, and others may fill the disk for that long.
const (
	lookBytes = 4 << 20
	lookEvery = 100 * time.Millisecond
)

func newSpace(dir, advice string) *space {
	return &space{dir: dir, advice: advice, inodes: 1, blobs: make(map[digest.Digest]*expected)}
}

// wholeBlob is what is to come of a blob of which nothing is there.
func wholeBlob(l image.Layer) int64 { return l.Blob.Size }

// expect is told, before anything of an image is fetched, which layers that will
// be, and how much of each is to come. Without an error the caller has to call forget
// when the image is done.
func (s *space) expect(layers []image.Layer, toCome func(image.Layer) int64) (forget func(), err error) {
	free, err := lookAt(s.dir)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images++
	count := make(map[digest.Digest]bool)
	for _, l := range layers {
		b := s.blobs[l.Blob.Digest]
		if b == nil {
			b = &expected{left: toCome(l)}
			s.blobs[l.Blob.Digest] = b
		}
		b.images++
		count[l.Blob.Digest] = true
	}
	need, inodes := s.due(free), uint64(len(count))*s.inodes
	switch {
	case free.bytes < need:
		err = s.short("at least %s are needed, and %s are free at %s", progress.Bytes(need), progress.Bytes(free.bytes), s.dir)
	case free.inodes < inodes && !(s.passing && s.images > 1):
		err = s.short("at least %d inodes are needed, and %d are free at %s", inodes, free.inodes, s.dir)
	}
	if err != nil {
		s.drop(layers)
		return nil, err
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(layers)
	}, nil
}

func (s *space) drop(layers []image.Layer) {
	s.images--
	for _, l := range layers {
		b := s.blobs[l.Blob.Digest]
		if b.images--; b.images == 0 {
			delete(s.blobs, l.Blob.Digest)
		}
	}
}

// left says how many bytes of a blob are yet to come.
func (s *space) left(l image.Layer, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blobs[l.Blob.Digest]; b != nil {
		b.left = n
	}
}

// came is told of n bytes of a blob that are here.
func (s *space) came(l image.Layer, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.blobs[l.Blob.Digest]; b != nil {
		b.left = max(0, b.left-n) // several may fetch it
	}
}

// write is asked before n bytes of a layer's plain tar are written.
func (s *space) write(n int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n <= s.granted && time.Since(s.looked) < lookEvery {
		s.granted -= n
		return nil
	}
	free, err := lookAt(s.dir)
	if err != nil {
		return err
	}
	due := s.due(free)
	if free.bytes-n < due {
		s.granted = 0
		return s.short("the disk would be full: at least %s are to be written yet, and %s are free at %s",
			progress.Bytes(n+min(due, math.MaxInt64-n)), progress.Bytes(free.bytes), s.dir)
	}
	s.granted, s.looked = min((free.bytes-n-due)/2, lookBytes), time.Now()
	return nil
}

// fits is asked before n bytes are written that have been counted.
func (s *space) fits(n int64) error {
	free, err := lookAt(s.dir)
	if err != nil {
		return err
	}
	if free.bytes < n && !free.packs {
		return s.short("%s are needed, and %s are free at %s", progress.Bytes(n), progress.Bytes(free.bytes), s.dir)
	}
	return nil
}

// due returns the least that is to be written of blobs which have not come.
func (s *space) due(free room) (n int64) {
	if free.packs || s.passing && s.images > 1 {
		return 0
	}
	for _, b := range s.blobs {
		// What does not compress gets a little larger by it: by five bytes of
		// 16 KiB in zlib's gzip. And a tar's headers are not written anywhere.
		least := b.left - b.left/64
		n += min(least, math.MaxInt64-n) // a manifest may say anything
	}
	return n
}

func (s *space) short(format string, args ...any) error {
	return fault.WithHint(fault.New(fault.Failed, format, args...), "%s", s.advice)
}

// most bounds what a layer may expand to. It is there for bombs: content that a
// layer deletes again fills no disk, and would keep a run busy for days. Who has
// to write it all never gets there.
func (s *space) most() (int64, error) {
	free, err := lookAt(s.dir)
	return 4 * max(free.total, 1<<30), err
}

// room is what a file system says of itself.
type room struct {
	bytes, total int64  // free for this user, and in all
	inodes       uint64 // free
	packs        bool   // it may take less room for content than that has bytes
}

// lookAt asks the file system of dir.
func lookAt(dir string) (room, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return room{}, fmt.Errorf("free space of %s: %w", dir, err)
	}
	unit := int64(st.Frsize) //nolint:unconvert // types differ between platforms
	if unit == 0 {
		unit = int64(st.Bsize) //nolint:unconvert // see above
	}
	r := room{bytes: int64(st.Bavail) * unit, total: int64(st.Blocks) * unit, inodes: st.Ffree}
	if st.Blocks == 0 { // it has no size of its own: a ramfs, a tmpfs with size=0
		r.bytes, r.total = 1<<60, 1<<60
	}
	if st.Files == 0 { // it makes inodes as it needs them
		r.inodes = 1 << 60
	}
	// Nothing tells in advance, so that here names have to do: of what compresses,
	// and of what may stand for it, on another machine or in another program.
	switch uint32(st.Type) { //nolint:unconvert // see above
	case unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, zfsMagic, bcachefsMagic, ubifsMagic,
		unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.V9FS_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		r.packs = true
	}
	return r, nil
}

// Magic numbers that x/sys does not have.
const (
	zfsMagic      = 0x2fc12fc1
	bcachefsMagic = 0xca451a4e
	ubifsMagic    = 0x24051905
)
