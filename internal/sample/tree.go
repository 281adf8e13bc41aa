package sample

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// inode is what the names of one file have in common.
type inode struct{ dev, ino uint64 }

// text writes a file with a text.
func (w *tarWriter) text(name, text string) error {
	if err := w.parents(name); err != nil {
		return err
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(0, 0)}
	if err := w.header(h); err != nil {
		return err
	}
	_, err := io.WriteString(w.tw, text)
	return err
}

// parents writes the directories that name is in, which are not part of a tree
// and so have no metadata of their own.
func (w *tarWriter) parents(name string) error {
	for i, c := range name {
		if c != '/' || w.names[name[:i]] {
			continue
		}
		h := &tar.Header{Typeflag: tar.TypeDir, Name: name[:i] + "/", Mode: 0o755, ModTime: time.Unix(0, 0)}
		if err := w.header(h); err != nil {
			return err
		}
	}
	return nil
}

// header begins an entry.
func (w *tarWriter) header(h *tar.Header) error {
	w.entries++
	w.names[strings.TrimSuffix(h.Name, "/")] = true
	return w.tw.WriteHeader(h)
}

// tree writes a tree of this machine.
func (w *tarWriter) tree(ctx context.Context, t Tree) error {
	from, err := filepath.EvalSymlinks(t.Path)
	var root unix.Stat_t
	if err == nil {
		err = unix.Lstat(from, &root)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fault.Wrap(fault.NotFound, err)
	}
	if err == nil {
		err = w.parents(t.name())
	}
	if err == nil {
		err = filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				name := path.Join("/", t.name(), strings.TrimPrefix(file, from))
				err = w.node(file, name[1:], &root)
			}
			if unreadable(err) && file != from {
				return nil
			}
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("make a layer of %s: %w", t.Path, err)
	}
	return nil
}

// unreadable tells errors that mean a file less: it has gone, has become
// something else since it was looked at, or is not for us to read.
func unreadable(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ELOOP) || errors.Is(err, errChanged)
}

var errChanged = errors.New("is no regular file any more")

// node writes one file of a tree, whose top is root, under a name. Its error is
// fs.SkipDir for a directory that is not to be entered.
func (w *tarWriter) node(file, name string, root *unix.Stat_t) error {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: file, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	top := st.Dev == root.Dev && st.Ino == root.Ino
	// A file that is called so would be a deletion in an image.
	if st.Dev != root.Dev || strings.HasPrefix(path.Base(name), ".wh.") || secret(&st) && !top {
		if kind == unix.S_IFDIR {
			return fs.SkipDir
		}
		return nil
	}
	if name == "" || w.names[name] {
		return nil
	}
	h := &tar.Header{Name: name}
	fill(h, &st)
	switch kind {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFLNK:
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFREG:
		return w.file(file, h, inode{st.Dev, st.Ino}, st.Nlink > 1)
	default:
		return nil // a socket or a device
	}
	return w.header(h)
}

// secret tells files and directories that not everyone may read. A registry
// would hand them out to everyone.
func secret(st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return st.Mode&0o004 == 0
	case unix.S_IFDIR:
		return st.Mode&0o005 != 0o005
	}
	return false
}

// fill takes owner, mode and time over. The time is in whole seconds, as docker
// push has it.
func fill(h *tar.Header, st *unix.Stat_t) {
	h.Mode, h.Uid, h.Gid = int64(st.Mode&0o7777), int(st.Uid), int(st.Gid)
	seconds, _ := st.Mtim.Unix()
	h.ModTime = time.Unix(seconds, 0)
}

// file writes a regular file, or a hardlink when it was written already.
func (w *tarWriter) file(file string, h *tar.Header, id inode, linked bool) error {
	if first, ok := w.links[id]; ok {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return w.header(h)
	}
	// What is there may be another file than a moment ago: not one that a
	// symlink leads to, and opening a fifo does not wait.
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "fstat", Path: file, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return &fs.PathError{Op: "open", Path: file, Err: errChanged}
	}
	fill(h, &st)
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	const capability = "security.capability"
	var value [64]byte
	if n, err := unix.Fgetxattr(int(f.Fd()), capability, value[:]); err == nil && n > 0 {
		h.PAXRecords = map[string]string{"SCHILY.xattr." + capability: string(value[:n])}
	}
	if err := w.header(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(w.tw, io.LimitReader(f, st.Size), w.buf)
	if err == nil && n < st.Size {
		_, err = io.CopyBuffer(w.tw, io.LimitReader(zeros{}, st.Size-n), w.buf)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", file, err)
	}
	if linked {
		w.links[id] = h.Name
	}
	return nil
}

// zeros is an endless source of zeros.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
