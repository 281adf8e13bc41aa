package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// A disk's size in bytes, of which only what is written takes memory, and how
// many inodes it has at least: as many as mkfs gives to that size by itself.
const (
	diskSize   = 12 << 30
	diskInodes = diskSize >> 14
)

// disk is a new ext4 on a loop device.
type disk struct{ dir string } // where it is mounted

// newDisk makes one with room for so many entries and mounts it at dir, which it
// creates. Its file has no name, and is in the directory in, or in memory if in is "". The loop
// device clears itself, so that unmounting is all that has to be done to get rid of it.
func newDisk(ctx context.Context, in, dir string, entries int) (d *disk, err error) {
	fail := func(doing string, err error) (*disk, error) {
		return nil, fmt.Errorf("make a disk: %s: %w", doing, err)
	}
	file, err := diskFile(in)
	if err != nil {
		return fail("make its file", err)
	}
	defer file.Close()
	loop, err := attach(file)
	if err != nil {
		return fail("attach a loop device", err)
	}
	defer loop.Close() // the mount holds it
	if in != "" {
		// Without it, each byte would be copied by the CPU once more, and be in memory twice.
		if err := unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_DIRECT_IO, 1); err != nil {
			return fail("turn on direct I/O", err)
		}
	}
	mkfs := command{program: "mkfs.ext4", args: []string{
		"-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
		"-N", strconv.Itoa(max(diskInodes, entries+entries/8)), loop.Name(),
	}}
	if _, _, err := mkfs.run(ctx); err != nil {
		return fail("make the file system", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount(loop.Name(), dir, "ext4", 0, ""); err != nil {
		return fail("mount "+loop.Name(), err)
	}
	return &disk{dir}, nil
}

// diskFile makes the file of a disk. In a directory all of it is allocated, so that no write has to
// do that.
func diskFile(in string) (*os.File, error) {
	if in == "" {
		fd, err := unix.MemfdCreate("fastpull-bench", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, os.NewSyscallError("memfd_create", err)
		}
		file := os.NewFile(uintptr(fd), "memfd")
		return file, file.Truncate(diskSize)
	}
	file, err := os.OpenFile(in, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Fallocate(int(file.Fd()), 0, 0, diskSize); err != nil {
		return nil, errors.Join(fmt.Errorf("allocate %d bytes in %s: %w", int64(diskSize), in, err), file.Close())
	}
	return file, nil
}

// attach makes file a block device, which is detached when nobody uses it any
// more. Another program may take the same free device in between; then there is
// another one.
func attach(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free one: %w", err)
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		err = unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_SET_FD, int(file.Fd()))
		if err == nil {
			info := &unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}
			if err = unix.IoctlLoopSetStatus64(int(loop.Fd()), info); err == nil {
				return loop, nil
			}
			err = errors.Join(err, unix.IoctlSetInt(int(loop.Fd()), unix.LOOP_CLR_FD, 0))
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s: %w", loop.Name(), err)
		}
	}
}

func (d *disk) path(name string) string { return filepath.Join(d.dir, name) }

// flush writes all to the disk and returns how many seconds that took.
func (d *disk) flush() (float64, error) {
	f, err := os.Open(d.dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	begun := time.Now()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return 0, fmt.Errorf("flush %s: %w", d.dir, err)
	}
	return time.Since(begun).Seconds(), nil
}

// written returns how many bytes were written to the disk so far: the sectors in its statistics
// (Linux's Documentation/block/stat.rst).
func (d *disk) written() (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(d.dir, &st); err != nil {
		return 0, fmt.Errorf("look at %s: %w", d.dir, err)
	}
	name := fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(st.Dev), unix.Minor(st.Dev))
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	const at, sector = 6, 512
	fields := strings.Fields(string(text))
	if len(fields) <= at {
		return 0, fmt.Errorf("%s has %d fields", name, len(fields))
	}
	n, err := strconv.ParseInt(fields[at], 10, 64)
	return n * sector, err
}

// close unmounts the disk, which is its end, and what daemons have left mounted
// in it.
func (d *disk) close() error { return unmountBelow(d.dir) }

// unmountBelow unmounts dir and all below it, the innermost first.
func unmountBelow(dir string) error {
	list, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	slices.Reverse(list)
	var errs []error
	for _, mount := range list {
		point := mount.Mountpoint
		err := unix.Unmount(point, 0)
		// A daemon that was killed may need a moment to let go.
		for end := time.Now().Add(5 * time.Second); err == unix.EBUSY && time.Now().Before(end); {
			time.Sleep(50 * time.Millisecond)
			err = unix.Unmount(point, 0)
		}
		if err == unix.EBUSY {
			err = unix.Unmount(point, unix.MNT_DETACH)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}
