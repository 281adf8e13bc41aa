package unpack

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// space counts the free space of a file system while a layer fills it, so that a file that
// cannot fit is refused before it fills the disk.
type space struct {
	fd    int    // of a directory there
	wait  func() // until what was taken is written
	bytes int64  // left, as far as is known without looking again
	quiet int    // entries until it is looked at again
	block int64
	total int64 // bytes that the file system has, free or not
	noted bool  // the file system counts inodes
	nodes int64
	holes *int64 // space for sparse files, at the first of them
}

// lookAfter is how many entries may be made between two looks: others write to
// the disk too. A look costs as much as reading a byte.
const lookAfter = 256

// take reserves space for an entry of size bytes.
func (s *space) take(size int64) error {
	s.quiet--
	short := s.bytes < size+s.block || s.noted && s.nodes <= 0
	if short && size > 0 {
		s.wait()
	}
	if short || s.quiet <= 0 {
		if err := s.look(); err != nil {
			return err
		}
	}
	if s.noted && s.nodes <= 0 {
		return s.noNodes()
	}
	if size == 0 {
		s.nodes--
		return nil
	}
	if err := s.fits(size); err != nil {
		return err
	}
	s.nodes--
	s.bytes -= (size + s.block - 1) / s.block * s.block
	return nil
}

// expand makes sure that the sparse entries together have no more bytes than the
// file system has space for, whatever is made of them: one of 512 bytes can claim
// to be 8 EiB.
func (s *space) expand(size int64) error {
	if s.holes == nil {
		if err := s.look(); err != nil {
			return err
		}
		s.holes = new(s.bytes)
	}
	if size > *s.holes {
		err := fmt.Errorf("a sparse file of %d bytes, and there is room for %d: %w", size, *s.holes, unix.ENOSPC)
		if size > s.total {
			return fault.Wrap(fault.Corrupt, err)
		}
		return fault.WithHint(err, hintSpace)
	}
	*s.holes -= size
	return nil
}

func (s *space) fits(size int64) error {
	if size <= s.bytes {
		return nil
	}
	return fault.WithHint(fmt.Errorf("it has %d bytes, and %d are free: %w", size, s.bytes, unix.ENOSPC), hintSpace)
}

func (s *space) noNodes() error {
	return fault.WithHint(fmt.Errorf("it needs an inode, and none is free: %w", unix.ENOSPC), hintNodes)
}

func (s *space) look() error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(s.fd, &st); err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	s.count(&st)
	return nil
}

// unknownSpace stands for the free space of a file system that reports none (ramfs, a tmpfs
// without a limit, some of FUSE). The kernel reports when it is full.
const unknownSpace = 1 << 40

// count sets the space from the values of a file system. Blocks are of Frsize bytes. Some file
// systems report all ones if they have no limit (inodes of bcachefs).
func (s *space) count(st *unix.Statfs_t) {
	s.block = max(1, int64(st.Frsize)) //nolint:unconvert // types differ between platforms
	if st.Frsize == 0 {
		s.block = max(1, int64(st.Bsize)) //nolint:unconvert // the same
	}
	most := uint64(math.MaxInt64 / s.block)
	s.bytes, s.total = int64(min(st.Bavail, most))*s.block, int64(min(st.Blocks, most))*s.block
	if st.Blocks == 0 {
		s.bytes, s.total = unknownSpace, unknownSpace
	}
	s.noted, s.nodes = st.Files > 0, int64(min(st.Ffree, math.MaxInt64))
	s.quiet = lookAfter
}

const (
	hintSpace = "make room where the image is to go (df shows what is free), or choose another place"
	hintNodes = "remove files where the image is to go (df -i shows the inodes), or choose another place"
)

// explain adds to an error of the kernel whose fault it is, or what helps.
func (s *space) explain(err error) error {
	if fault.HintOf(err) != "" {
		return err
	}
	switch {
	case errors.Is(err, unix.ENAMETOOLONG):
		return fault.Wrap(fault.Corrupt, err)
	case errors.Is(err, unix.ENOSPC):
		if s.look() == nil && s.noted && s.nodes <= 0 {
			return fault.WithHint(fmt.Errorf("%w: the file system has no inodes left", err), hintNodes)
		}
		return fault.WithHint(fmt.Errorf("%w: %d bytes are free", err, s.bytes), hintSpace)
	}
	return err
}
