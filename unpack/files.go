package unpack

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack/internal/tree"
)

// Files opens files of an extracted layer by the names of its tar, inside the
// layer's directory whatever symlinks say. It implements tar-split's
// storage.FileGetter and is for one goroutine.
type Files struct{ t *tree.Tree }

// OpenFiles returns the Files of the directory root, to be closed after use.
func OpenFiles(root string) (*Files, error) {
	t, err := tree.Open(root)
	if err != nil {
		return nil, err
	}
	return &Files{t}, nil
}

// Get opens the regular file called name. As in Docker, which may have written
// the name, ".." ends at the root.
func (f *Files) Get(name string) (io.ReadCloser, error) {
	parent, base := path.Split(strings.TrimLeft(path.Clean("/"+name), "/"))
	d, err := f.t.Open(path.Clean(parent), tree.LookOnly)
	if err != nil {
		return nil, err
	}
	// Looked at before it is opened: opening a device can have effects.
	var st unix.Stat_t
	if err := unix.Fstatat(d.FD, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fault.New(fault.Corrupt, "%s is no regular file", name)
	}
	fd, err := unix.Openat(d.FD, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Close closes the directories that are open. Files that were opened stay.
func (f *Files) Close() error {
	f.t.Close()
	return nil
}
