package overlay

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// removal is the suffix of a note that an image is being removed. The removal is one rename,
// which needs no space: the image's config moves to fastpull/pending, under its ID and this
// suffix. From then on its names are void, although repositories.json may still have them.
// Docker ignores a name without an image, too. The note says that the list of names has to be
// written. It is removed when that is done, after a crash by the next Open.
const removal = ".image"

func isRemoval(note string) bool { return strings.HasSuffix(note, removal) }

// config returns the path of an image's config.
func (r *Reader) config(id digest.Digest) string {
	return r.path("image/overlay2/imagedb/content/sha256", id.Encoded())
}

// leaving returns the images that are gone, and that the list of names may still have.
func (r *Reader) leaving() (map[digest.Digest]bool, error) {
	notes, err := os.ReadDir(r.path("fastpull/pending"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	gone := make(map[digest.Digest]bool)
	for _, n := range notes {
		if !isRemoval(n.Name()) {
			continue
		}
		id := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(n.Name(), removal))
		// If the image was pulled again meanwhile, by Docker, its names are good.
		if _, err := os.Lstat(r.config(id)); errors.Is(err, fs.ErrNotExist) {
			gone[id] = true
		}
	}
	return gone, nil
}

// deleteImage removes an image and its names. The caller has the lists.
func (s *Store) deleteImage(st *stock, id digest.Digest, r *Removal) error {
	refs := st.refs(id)
	note := id.Encoded() + removal
	if err := perform([]step{
		{"delete: config", func() error {
			if len(refs) == 0 {
				return os.Remove(s.config(id))
			}
			return os.Rename(s.config(id), s.path("fastpull/pending", note))
		}},
		{"delete: names", func() error {
			if err := s.dropNames(note); err != nil && !disk.Full(err) {
				return err
			}
			return nil // there will be space when the layers are gone
		}},
		{"delete: metadata", func() error {
			return tmpfile.RemoveAll(s.path("image/overlay2/imagedb/metadata/sha256", id.Encoded()))
		}},
	}); err != nil {
		return err
	}
	r.Untagged = append(r.Untagged, refs...)
	r.Deleted = append(r.Deleted, id)
	return nil
}

// finishRemoval is dropNames for a process that does not have the lists. If another one
// has them, the note may be its own.
func (s *Store) finishRemoval(note string) error {
	if !s.locks.try(namesLock) {
		return nil
	}
	defer s.locks.unlock(namesLock)
	err := s.dropNames(note)
	if fault.KindOf(err) == fault.Corrupt {
		return nil // the list is damaged, which is told by what needs it
	}
	return err
}

// dropNames takes the names of an image that is gone out of the list, as its note says,
// and then removes the note. The caller has the lists.
func (s *Store) dropNames(note string) error {
	name := s.path("fastpull/pending", note)
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	n, err := s.names() // without them
	if err != nil {
		return err
	}
	if err = s.putNames(n); disk.Full(err) {
		err = s.putNamesInto(name, n)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// putNamesInto writes repositories.json into the blocks of a note, if the list fits into them,
// so that it needs no space. The name of a note says everything, so its content may be
// overwritten.
func (s *Store) putNamesInto(note string, n names) error {
	data, err := n.encode()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(note, os.O_WRONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil && (st.Nlink != 1 || st.Mode&unix.S_IFMT != unix.S_IFREG) {
		err = unix.ENOSPC // another name has the content, which is a backup say
	}
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = errors.Join(f.Truncate(int64(len(data))), f.Chmod(0o600), f.Sync())
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(note, s.path(namesFile))
}
