package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/codec"
	"github.com/fastpull/fastpull/internal/copying"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// OpenOptions are the options of [Open].
type OpenOptions struct {
	// TempDir is where a bundle that is compressed, or comes as a stream, waits as a
	// file without a name.
	TempDir string
}

// Open opens a bundle, or an archive of another program: an OCI layout or a docker-archive in
// one tar. name is the file. For a bundle in parts it is the first part, or what the names of
// the parts have in common.
//
// Open reads and checks the lists, manifests and configs, and no layers: see [Reader.Verify].
// Its errors are of kind [fault.Corrupt] if the file is no such archive, or is incomplete.
func Open(ctx context.Context, name string, o OpenOptions) (*Reader, error) {
	files, err := openFiles(name)
	if err != nil {
		return nil, err
	}
	r, err := open(ctx, name, files, o)
	if err != nil {
		closeAll(files)
		if len(files) > 1 || partOf(name) != "" {
			err = fault.WithHint(err, "if a part is missing or of another bundle, bring it; the last that was found is %s", files[len(files)-1].Name())
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// OpenStream is [Open] for a stream, which it first writes to a file in TempDir.
func OpenStream(ctx context.Context, in io.Reader, o OpenOptions) (*Reader, error) {
	f, err := spool(ctx, in, o.TempDir)
	if err != nil {
		return nil, err
	}
	r, err := open(ctx, "(standard input)", []*os.File{f.File}, o)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return r, nil
}

// open reads what the files are together. They are the Reader's if there is no error.
func open(ctx context.Context, name string, files []*os.File, o OpenOptions) (*Reader, error) {
	joined, size, err := join(files)
	if err != nil {
		return nil, err
	}
	all := io.NewSectionReader(joined, 0, size)
	unpacked, err := unpacker(ctx, all)
	if err != nil {
		return nil, err
	}
	r := &Reader{name: name, files: joined, close: joined.Close, changed: joined.changed}
	if unpacked != nil {
		f, err := spool(ctx, unpacked, o.TempDir)
		unpacked.Close()
		if err != nil {
			return nil, err
		}
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		all = io.NewSectionReader(f, 0, size)
		r.close = func() error { return errors.Join(f.Close(), joined.Close()) }
		r.changed = func() error { return nil } // f has no other writer
	}
	if r.tarball, err = scan(ctx, all); err == nil {
		r.index, err = parse(ctx, r.tarball)
	}
	if err != nil {
		if unpacked != nil {
			err = errors.Join(err, r.close())
		}
		return nil, err
	}
	return r, nil
}

// unpacker returns what a compressed archive is decompressed to; nil if it is not
// compressed.
func unpacker(ctx context.Context, r *io.SectionReader) (io.ReadCloser, error) {
	format, err := codec.Of(r)
	if err != nil || !format.Compressed() {
		return nil, err
	}
	return decode.Decompress(ctx, r, decode.Options{Cores: decode.NewCores(runtime.GOMAXPROCS(0))})
}

// spool writes all of r to a file without a name.
func spool(ctx context.Context, r io.Reader, dir string) (*tmpfile.File, error) {
	f, err := tmpfile.Scratch(dir)
	if err != nil {
		err = fmt.Errorf("make a temporary file in %s: %w", dir, err)
		if !fault.Exhausted(err) {
			err = fault.WithHint(err, "choose another directory with --temp-dir")
		}
		return nil, err
	}
	if _, err := copying.Copy(f, until{ctx, r}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// until ends a reader with its context, between two reads.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}

// partOf returns the bundle whose part a name is, "" if it is none.
func partOf(name string) string {
	base := filepath.Base(name)
	at := strings.LastIndex(base, ".part")
	if at < 0 {
		return ""
	}
	if n := base[at+len(".part"):]; len(n) != 3 || strings.Trim(n, "0123456789") != "" {
		return ""
	}
	return filepath.Join(filepath.Dir(name), base[:at])
}

// Whole returns the name that the parts of a bundle have in common, or the name itself if it
// is not that of a part.
func Whole(name string) string {
	if whole := partOf(name); whole != "" {
		return whole
	}
	return filepath.Clean(name)
}

// openFiles opens a bundle's file, or all its parts.
func openFiles(name string) (files []*os.File, err error) {
	whole := partOf(name)
	if whole == "" {
		f, err := os.Open(name)
		if err == nil {
			return []*os.File{f}, nil
		}
		if _, perr := os.Stat(PartName(name, 1)); !errors.Is(err, fs.ErrNotExist) || perr != nil {
			if rest, _ := filepath.Glob(name + ".part[0-9][0-9][0-9]"); len(rest) > 0 && errors.Is(err, fs.ErrNotExist) {
				return nil, fault.New(fault.NotFound, "%s is missing, of %s there is %s", PartName(name, 1), name, rest[0])
			}
			return nil, opened(err)
		}
		whole = name
	}
	for n := 1; n <= MaxParts; n++ {
		f, err := os.Open(PartName(whole, n))
		if errors.Is(err, fs.ErrNotExist) {
			// Is it the last, or missing in the middle?
			for later := n + 1; later <= MaxParts; later++ {
				if _, serr := os.Stat(PartName(whole, later)); serr == nil {
					return nil, errors.Join(fault.New(fault.NotFound, "%s is missing, and %s is there", PartName(whole, n), PartName(whole, later)), closeAll(files))
				}
			}
			break
		}
		if err != nil {
			return nil, errors.Join(opened(err), closeAll(files))
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, fault.New(fault.NotFound, "%s is missing", PartName(whole, 1))
	}
	return files, nil
}

func opened(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.Wrap(fault.NotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fault.Wrap(fault.Denied, err)
	}
	return err
}

func closeAll(files []*os.File) (err error) {
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	return err
}
