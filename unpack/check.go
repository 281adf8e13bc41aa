package unpack

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/archive/tar"
	"github.com/vbatts/tar-split/tar/storage"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/crc64iso"
)

// CheckOptions are the options of [Check].
type CheckOptions struct {
	// Whiteouts is how the layer keeps what it deletes.
	Whiteouts Overlay
	// Rootless is for a layer of which owners, devices and attributes may have been
	// left out: these are not compared.
	Rootless bool
	// Read is told of bytes of files as they are read. Nil is fine.
	Read func(n int64)
}

// Check compares the files of an extracted layer in the directory root with what
// its tar-split says, JSON lines that are not compressed: content, mode, owner,
// links, devices, attributes, deletions, and the time of files to the second. found
// is called for each thing that is wrong, with a path in the layer. What the tar
// does not have is wrong, too.
//
// It returns the digest of the tar, as made again of both, or "" where what was
// found, or a sparse file, keeps it from being made. An error says that tar-split
// cannot be read to its end.
func Check(ctx context.Context, split io.Reader, root string, o CheckOptions, found func(name, problem string)) (digest.Digest, error) {
	f, err := OpenFiles(root)
	if err != nil {
		return "", err
	}
	defer f.Close()
	c := &checker{
		CheckOptions: o, ctx: ctx, files: f, found: found, sum: sha256.New(),
		names: make(map[uint64]struct{}), seed: maphash.MakeSeed(), linked: make(map[uint64][2]string),
	}
	if err := c.run(storage.NewJSONUnpacker(split)); err != nil {
		return "", err
	}
	for _, l := range c.linked {
		c.wrong(l[0], l[1])
	}
	if err := c.strangers(f.t.root.fd, ""); err != nil {
		return "", err
	}
	if c.void {
		return "", nil
	}
	return digest.NewDigest(digest.SHA256, c.sum), nil
}

// checker is the state of one Check.
type checker struct {
	CheckOptions
	ctx   context.Context
	files *Files
	found func(name, problem string)
	sum   hash.Hash // of the tar
	void  bool      // it cannot be the tar's
	buf   []byte

	// names has the hashes of the paths that the tar has, with the directories that
	// they are in. Two with the same could hide a file that nobody expects.
	names map[uint64]struct{}
	seed  maphash.Seed
	// linked has what is wrong with files that have several names: another entry of
	// the tar may explain it.
	linked map[uint64][2]string
}

func (c *checker) wrong(name, problem string) {
	c.void = true
	c.found(name, problem)
}

// maxHeader is more than the headers of an entry can have.
const maxHeader = 16 << 20

func (c *checker) run(in storage.Unpacker) error {
	var raw []byte // what came since the last file
	for {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		e, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Corrupt, err)
		}
		switch e.Type {
		case storage.SegmentType:
			c.sum.Write(e.Payload)
			if len(raw) < maxHeader {
				raw = append(raw, e.Payload...)
			}
		case storage.FileType:
			// First the end of the last block of what came before.
			h, err := tar.NewReader(strings.NewReader(string(raw[len(raw)%512:]))).Next()
			if err != nil {
				return fault.New(fault.Corrupt, "%s has no header: %w", quote(e.GetName()), err)
			}
			raw = raw[:0]
			there := c.entry(h)
			if e.Size > 0 && !c.content(h, e, there) {
				c.void = true
			}
		default:
			return fault.New(fault.Corrupt, "an entry is of the type %d", e.Type)
		}
	}
}

// content reads the content of a file, and tells if the tar can be made of it.
func (c *checker) content(h *tar.Header, e *storage.Entry, there bool) bool {
	name := e.GetName()
	if top, _, _ := strings.Cut(path.Clean(strings.TrimLeft(name, "/")), "/"); !there || strings.HasPrefix(top, metaPrefix) {
		return false // AUFS' own files are not kept
	}
	f, err := c.files.Get(name)
	if err != nil {
		if !c.closed(err) {
			c.wrong(name, err.Error())
		}
		return false
	}
	defer f.Close()
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	var crc uint64
	var size int64
	for {
		if c.ctx.Err() != nil {
			return false // run says so
		}
		n, err := f.Read(c.buf)
		if n > 0 {
			size += int64(n)
			crc = crc64iso.Update(crc, c.buf[:n])
			if !c.void {
				c.sum.Write(c.buf[:n])
			}
			if c.Read != nil {
				c.Read(int64(n))
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			c.wrong(name, err.Error())
			return false
		}
	}
	switch {
	case size != e.Size:
		c.wrong(name, fmt.Sprintf("it has %d bytes, not %d", size, e.Size))
	case string(binary.BigEndian.AppendUint64(nil, crc)) != string(e.Payload):
		c.wrong(name, "its content is not what it was")
	default:
		return !sparse(h) // of which the tar does not have the holes
	}
	return false
}

// closed tells of files that this user may not read, which is no damage.
func (c *checker) closed(err error) bool {
	return c.Rootless && fault.KindOf(err) != fault.Corrupt && errors.Is(err, errAccess)
}

// remember notes a path, and the directories that it is in.
func (c *checker) remember(name string) {
	for ; name != "." && name != ""; name = path.Dir(name) {
		sum := maphash.String(c.seed, name)
		if _, ok := c.names[sum]; ok {
			return
		}
		c.names[sum] = struct{}{}
	}
}

func (c *checker) knows(name string) bool {
	_, ok := c.names[maphash.String(c.seed, name)]
	return ok
}
