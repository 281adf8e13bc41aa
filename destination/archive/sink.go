package archive

import (
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// sink receives the bytes of one layer. It writes them to the archive if it is the layer's turn
// when the first byte arrives, and otherwise to a file.
type sink struct {
	p      *packer
	key    digest.Digest
	stream *bundle.Stream
	file   *tmpfile.File
	size   int64
}

// begin is called before the first byte, and again if all of them are void.
func (s *sink) begin() (err error) {
	s.size = 0
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
		if s.stream, err = s.p.w.Stream(s.key); s.stream != nil {
			return err
		}
		s.p.writing.Release(1)
		if err != nil {
			return err
		}
	}
	s.file, err = destination.Scratch(s.p.space.Dir())
	return err
}

// reserve reports whether a layer may go into the archive now. If so, the caller has to
// release p.writing.
func (p *packer) reserve(key digest.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next == key && p.writing.TryAcquire(1)
}

func (s *sink) Write(b []byte) (n int, err error) {
	if s.stream != nil {
		n, err = s.stream.Write(b)
	} else {
		n, err = s.file.Write(b)
	}
	s.size += int64(n)
	return n, err
}

// commit ends a layer of the given digest. The file that it is in, unless that is
// the archive, belongs to the caller.
func (s *sink) commit(d digest.Digest) (size int64, f *tmpfile.File, err error) {
	if s.stream != nil {
		_, err = s.stream.Commit(d)
		s.stream = nil
		s.p.writing.Release(1)
	}
	f, s.file = s.file, nil
	return s.size, f, err
}

// abort removes the bytes that were not committed.
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
	return err
}
