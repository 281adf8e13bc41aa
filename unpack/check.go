package unpack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"path"
	"slices"
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
// A layer that goes through symlinks of its own to what it then replaces, which no
// builder makes, may be found damaged.
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
		seed: maphash.MakeSeed(), linked: make(map[uint64][2]string),
	}
	if err := c.run(storage.NewJSONUnpacker(split)); err != nil {
		return "", err
	}
	for _, l := range c.linked {
		c.wrong(l[0], l[1])
	}
	for _, d := range c.doubts {
		c.wrong(d.name, d.problem)
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
	names nameSet
	seed  maphash.Seed
	// linked has what is wrong with files that have several names: another entry of
	// the tar may explain it.
	linked map[uint64][2]string
	doubts []doubt
}

// doubt is something that is wrong with what an entry became, unless a later one put
// something in its place.
type doubt struct {
	name, problem string
	dir           bool // the entry's type
}

// doubt is wrong, for what a later entry may explain.
func (c *checker) doubt(h *tar.Header, name, problem string) {
	if len(c.doubts) >= maxDoubts {
		c.wrong(name, problem)
		return
	}
	c.doubts = append(c.doubts, doubt{name, problem, h.Typeflag == tar.TypeDir})
}

// maxDoubts bounds the memory for them.
const maxDoubts = 1 << 10

// explain drops the doubts that an entry explains: it is in something that was no
// directory before, or no directory where something was in one.
func (c *checker) explain(h *tar.Header, name string) {
	c.doubts = slices.DeleteFunc(c.doubts, func(d doubt) bool {
		return !d.dir && strings.HasPrefix(name, d.name+"/") || h.Typeflag != tar.TypeDir && strings.HasPrefix(d.name, name+"/")
	})
}

func (c *checker) wrong(name, problem string) {
	c.void = true
	c.found(name, problem)
}

// maxHeader is more than the headers of an entry can have.
const maxHeader = 16 << 20

func (c *checker) run(in storage.Unpacker) error {
	var raw []byte // what came since the last file
	at := 0        // where that begins, in a block; -1 if that is not known
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
			h, next, err := header(raw, at)
			if err != nil {
				return fault.New(fault.Corrupt, "%s has no header: %w", quote(e.GetName()), err)
			}
			raw, at = raw[:0], next
			there := true
			if h == nil {
				h = &tar.Header{Name: e.GetName(), Typeflag: tar.TypeGNUSparse, Size: e.Size}
				c.remember(path.Clean(strings.TrimLeft(h.Name, "/")))
			} else {
				there = c.entry(h)
			}
			switch {
			case e.Size == 0:
			case sparse(h), kinds[h.Typeflag] != 0, h.Typeflag == tar.TypeLink:
				at = -1 // the content has another size, or there is none
			default:
				at = int((int64(at) + e.Size) % blockSize)
			}
			if e.Size > 0 && !c.content(h, e, there) {
				c.void = true
			}
		default:
			return fault.New(fault.Corrupt, "an entry is of the type %d", e.Type)
		}
	}
}

const blockSize = 512

// header finds the header at the end of raw, which begins at the given place of a
// block with the rest of what came before, and returns where raw ends in a block.
// It is nil for a sparse file that has the list of its holes among its content.
func header(raw []byte, at int) (h *tar.Header, next int, err error) {
	skip := (blockSize - at) % blockSize
	if at < 0 {
		skip = len(raw) % blockSize
	}
	if skip > len(raw) {
		return nil, 0, io.ErrUnexpectedEOF
	}
	raw = raw[skip:]
	if h, err = tar.NewReader(bytes.NewReader(raw)).Next(); err != nil && bytes.Contains(raw, []byte("GNU.sparse.major=1")) {
		return nil, len(raw) % blockSize, nil
	}
	return h, len(raw) % blockSize, err
}

// content reads the content of a file, and tells if the tar can be made of it.
func (c *checker) content(h *tar.Header, e *storage.Entry, there bool) bool {
	name := e.GetName()
	if !there {
		return false
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
		if was, _ := c.names.put(maphash.String(c.seed, name)); was { // without a Memory it can always grow
			return
		}
	}
}

func (c *checker) knows(name string) bool {
	return c.names.has(maphash.String(c.seed, name))
}
