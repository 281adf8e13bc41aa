package pull

import (
	"errors"
	"io"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// sink takes the bytes of one layer: the archive, if it is that layer's turn when
// they begin to come, or else a file of its own. A layer that goes into the archive
// as it came needs no second file if its blob is kept in one.
type sink struct {
	p      *packer
	key    digest.Digest
	stream *bundle.Stream
	file   *tmpfile.File
	spare  bool     // the bytes are in the blob's own file
	kept   *os.File // which that is, when all have come
	size   int64
}

// begin is called before the first byte, and again if all of them are void. InFile
// says that the blob's own file has them as well.
func (s *sink) begin(inFile bool) (err error) {
	s.size, s.spare = 0, false
	switch {
	case s.stream != nil:
		return s.stream.Reset()
	case s.file != nil:
		if err := s.file.Truncate(0); err != nil {
			return err
		}
		_, err = s.file.Seek(0, io.SeekStart)
		return err
	}
	if s.p.reserve(s.key) {
		if s.stream, err = s.p.w.Stream(); s.stream != nil {
			return err
		}
		s.p.writing.Release(1)
		if err != nil {
			return err
		}
	}
	if inFile {
		s.spare = true
		return nil
	}
	s.file, err = tmpfile.New(s.p.spool.space.dir, 0o600)
	return err
}

// reserve tells if a layer may go into the archive now. Whoever it may has to give
// back p.writing.
func (p *packer) reserve(key digest.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next == key && p.writing.TryAcquire(1)
}

func (s *sink) Write(b []byte) (n int, err error) {
	switch {
	case s.stream != nil:
		n, err = s.stream.Write(b)
	case s.file != nil:
		n, err = s.file.Write(b)
	default:
		n = len(b)
	}
	s.size += int64(n)
	return n, err
}

// lost tells if the bytes are nowhere.
func (s *sink) lost() bool { return s.spare && s.kept == nil }

// commit ends a layer of the given digest. The file that it is in, unless that is
// the archive, belongs to the caller, who has to call end.
func (s *sink) commit(d digest.Digest) (size int64, f *os.File, end io.Closer, err error) {
	switch {
	case s.stream != nil:
		_, err = s.stream.Commit(d)
		s.stream = nil
		s.p.writing.Release(1)
	case s.spare:
		f, end = s.kept, s.kept
		s.kept = nil
	default:
		f, end = s.file.File, s.file
		s.file = nil
	}
	return s.size, f, end, errors.Join(err, s.forget())
}

// forget closes the blob's own file, if it is not needed.
func (s *sink) forget() (err error) {
	if s.kept != nil {
		err = s.kept.Close()
		s.kept = nil
	}
	return err
}

// abort takes back what is not committed.
func (s *sink) abort() (err error) {
	if s.stream != nil {
		err = s.stream.Abort()
		s.stream = nil
		s.p.writing.Release(1)
	}
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
		s.file = nil
	}
	return errors.Join(err, s.forget())
}
