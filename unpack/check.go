package unpack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
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
	"github.com/fastpull/fastpull/internal/nameset"
	"github.com/fastpull/fastpull/unpack/internal/tarsplit"
	"github.com/fastpull/fastpull/unpack/internal/tree"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// CheckOptions are the options of [Check].
type CheckOptions struct {
	// Whiteouts is how the layer keeps what it deletes.
	Whiteouts whiteout.Overlay
	// Rootless is for a layer of which owners, devices and attributes may have been
	// left out: these are not compared.
	Rootless bool
	// Read is called with the number of bytes of files that were read. Nil is fine.
	Read func(n int64)
}

// Check compares the files of an extracted layer in the directory root with its tar-split,
// JSON lines that are not compressed. It compares content, mode, owner, links, devices,
// attributes, deletions, and the times of files to the second. It calls found for each
// difference, with a path in the layer. A file that the tar does not have is a difference,
// too.
//
// It returns the digest of the tar that Docker would make of both. It returns "" if a
// difference, or a file that Rootless may not read, prevents that. The error is about a
// tar-split that cannot be read to its end, or it is one of [fault.Exhausted]: then what was
// found says nothing.
//
// A layer that goes through its own symlinks to files that it then replaces may be reported as
// damaged. No builder makes such layers.
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
	if err := c.run(json.NewDecoder(split)); err != nil {
		return "", err
	}
	for _, l := range c.linked {
		c.wrong(l[0], l[1])
	}
	for _, d := range c.doubts {
		c.wrong(d.name, d.problem)
	}
	if err := c.strangers(f.t.Root.FD, ""); err != nil {
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
	ended error     // what the process lacks; see lacks
	kept  bool      // a file is to have the content of the entry at hand
	buf   []byte

	// names has the hashes of all paths in the tar and of their parent directories. Two paths
	// with the same hash could hide an unexpected file.
	names nameset.Set
	// entries has the hashes of the names of entries, to find one that occurs twice. Docker cannot
	// read such a record.
	entries nameset.Set
	seed    maphash.Seed
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

// doubt is like wrong, for a difference that a later entry may explain. No entry explains
// missing content.
func (c *checker) doubt(h *tar.Header, name, problem string) {
	if c.kept || len(c.doubts) >= maxDoubts {
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

func (c *checker) run(in *json.Decoder) error {
	var raw []byte // raw bytes since the last file, the first of them
	var n int64    // all of it
	at := int64(0) // where that begins, in a block; -1 if that is not known
	for {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		e, err := c.next(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Corrupt, err)
		}
		switch e.Type {
		case storage.SegmentType:
			c.sum.Write(e.Payload)
			n += int64(len(e.Payload))
			if len(raw) < maxHeader {
				raw = append(raw, e.Payload...)
			}
		case storage.FileType:
			h, skipped, err := header(raw, at)
			if err != nil {
				return fault.New(fault.Corrupt, "%s has no header: %w", tree.Quote(e.GetName()), err)
			}
			if c.file(h, e); c.ended != nil {
				return c.ended
			}
			if tarsplit.Sparse(h) && e.Size > 0 {
				at = -1 // its content has another size in the tar
			} else {
				at = (n - skipped + min(e.Size, tarsplit.ContentSize(h))) % blockSize
			}
			raw, n = raw[:0], 0
		default:
			return fault.New(fault.Corrupt, "an entry is of the type %d", e.Type)
		}
	}
}

// next returns the next entry, as storage.NewJSONUnpacker does, which keeps the names themselves.
func (c *checker) next(in *json.Decoder) (*storage.Entry, error) {
	var e storage.Entry
	if err := in.Decode(&e); err != nil {
		return nil, err
	}
	if e.Type == storage.FileType {
		if twice, _ := c.entries.Put(maphash.String(c.seed, path.Clean(e.GetName()))); twice { // see remember
			return nil, storage.ErrDuplicatePath
		}
	}
	return &e, nil
}

const blockSize = 512

// header reads the tar header in raw. Before it, raw has the padding of the previous content,
// which begins at offset at of a block. header returns the size of the padding as skipped.
// Content may follow the header.
//
// The list of holes of a sparse file can be a part of its content, which Docker's record does
// not have here. Then the header is made up.
func header(raw []byte, at int64) (h *tar.Header, skipped int64, err error) {
	skip := int((blockSize - at) % blockSize)
	if at < 0 {
		skip = len(raw) % blockSize
	}
	if skip > len(raw) {
		return nil, 0, io.ErrUnexpectedEOF
	}
	raw = raw[skip:]
	if h, err = tar.NewReader(bytes.NewReader(raw)).Next(); err != nil && bytes.Contains(raw, []byte("GNU.sparse.major=1")) {
		h, err = &tar.Header{Typeflag: tar.TypeGNUSparse}, nil
	}
	return h, int64(skip), err
}

// file compares what an entry became, content included.
func (c *checker) file(h *tar.Header, e *storage.Entry) {
	c.kept = e.Size > 0
	there, madeUp := false, h.Name == "" && tarsplit.Sparse(h)
	if madeUp { // nothing more is known of it
		c.remember(path.Clean(strings.TrimLeft(e.GetName(), "/")))
	} else {
		there = c.entry(h)
	}
	switch {
	case madeUp || c.kept && tarsplit.Sparse(h):
		c.wrong(e.GetName(), "the record of its tar does not have the holes of this sparse file, so that Docker cannot save the layer")
	case c.kept && tarsplit.ContentSize(h) == 0:
		c.wrong(e.GetName(), fmt.Sprintf("the record of its tar has %d bytes of content, which the tar does not have, so that Docker cannot save the layer", e.Size))
	case there && len(e.Payload) > 0:
		c.content(h, e)
	case c.kept:
		c.void = true
	}
}

// content compares the content of a file with its checksum, and if the record does not
// have it, adds it to the tar.
func (c *checker) content(h *tar.Header, e *storage.Entry) {
	name := e.GetName()
	f, err := c.files.Get(name)
	if err != nil {
		if c.void = true; !c.lacks(err) && !c.closed(err) {
			c.wrong(name, err.Error())
		}
		return
	}
	defer f.Close()
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	var crc uint64
	var size int64
	for c.ctx.Err() == nil { // run says so
		n, err := f.Read(c.buf)
		if n > 0 {
			size += int64(n)
			crc = crc64iso.Update(crc, c.buf[:n])
			if c.kept && !c.void {
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
			if !c.lacks(err) {
				c.wrong(name, err.Error())
			}
			return
		}
	}
	switch want := tarsplit.ContentSize(h); {
	case size != want:
		c.wrong(name, fmt.Sprintf("it has %d bytes, not %d", size, want))
	case string(binary.BigEndian.AppendUint64(nil, crc)) != string(e.Payload):
		c.wrong(name, "its content is not what it was")
	}
}

// lacks reports whether an error is no difference, but of the process: it may open no more
// files, say. The check ends with it.
func (c *checker) lacks(err error) bool {
	if !fault.Exhausted(err) {
		return false
	}
	if c.ended == nil {
		c.ended = err
	}
	return true
}

// closed reports whether an error is about a file that this user may not read, which is no
// damage.
func (c *checker) closed(err error) bool {
	return c.Rootless && fault.KindOf(err) != fault.Corrupt && errors.Is(err, errAccess)
}

// remember notes a path, and the directories that it is in.
func (c *checker) remember(name string) {
	for ; name != "." && name != ""; name = path.Dir(name) {
		if was, _ := c.names.Put(maphash.String(c.seed, name)); was { // without a Budget it can always grow
			return
		}
	}
}

func (c *checker) knows(name string) bool {
	return c.names.Has(maphash.String(c.seed, name))
}
