package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/codec"
	"github.com/fastpull/fastpull/internal/copying"
	"github.com/fastpull/fastpull/unpack"
)

// VerifyOptions are the options of [Reader.Verify].
type VerifyOptions struct {
	// DiffIDs decompresses layers, too, compares them with their diffIDs, and reads
	// them as tars.
	DiffIDs bool
	// Done is called with the number of bytes that were read, from several goroutines. Nil
	// is fine.
	Done func(n int64)
}

// mostErrors is how many damaged blobs are reported.
const mostErrors = 20

// Verify reads the whole bundle, and checks that each blob hashes to its digest. In a bundle
// that fastpull has written, it also checks every other byte. A missing blob is an error, unless
// it is a layer that the base of the bundle has.
//
// The error joins up to 20 errors about damage, which are of kind [fault.Corrupt].
func (r *Reader) Verify(ctx context.Context, o VerifyOptions) error {
	var mu sync.Mutex
	var failures []error
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, err)
	}
	for _, err := range append(r.verifyFrame(), r.missing(r.tarball)...) {
		fail(err)
	}
	cores, memory := decode.NewCores(runtime.GOMAXPROCS(0)), decode.NewMemory(0)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	blobs := slices.DeleteFunc(slices.Collect(maps.Keys(r.members)), func(name string) bool { _, is := digestOf(name); return !is })
	slices.SortFunc(blobs, func(a, b string) int {
		return cmp.Or(cmp.Compare(r.members[b].size, r.members[a].size), strings.Compare(a, b))
	})
	for _, name := range blobs {
		g.Go(func() error {
			err := r.verifyBlob(ctx, name, cores, memory, o)
			if err != nil && ctx.Err() == nil {
				fail(err)
			}
			return context.Cause(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if more := len(failures) - mostErrors; more > 0 {
		failures = append(failures[:mostErrors], fault.New(fault.Corrupt, "and %d more", more))
	}
	return errors.Join(failures...)
}

func (r *Reader) verifyBlob(ctx context.Context, name string, cores *decode.Cores, memory *decode.Memory, o VerifyOptions) error {
	d, _ := digestOf(name)
	if d == "" {
		return fault.New(fault.Corrupt, "%q is not the name of a blob", name)
	}
	m := r.members[name]
	content := r.open(m)
	var src io.Reader = until{ctx, content}
	if o.Done != nil {
		src = &counted{src, o.Done}
	}
	l := r.layer(d)
	var misfit error // of a blob with the right digest
	if l != nil {
		misfit = fits(content, l.DiffID, d)
	}
	if l != nil && o.DiffIDs && misfit == nil {
		tar := decode.NewReader(ctx, io.NopCloser(src), decode.Expect{Digest: d, Size: m.size, DiffID: l.DiffID}, decode.ReaderOptions{Options: decode.Options{Cores: cores, Memory: memory}})
		err := errors.Join(unpack.Scan(ctx, tar), tar.Close())
		if fault.KindOf(err) == fault.Corrupt {
			return fault.New(fault.Corrupt, "blob %s is damaged: %w", d, err)
		}
		if err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
		return nil
	}
	sum := d.Verifier()
	if _, err := copying.Copy(sum, src); err != nil {
		return fmt.Errorf("blob %s: %w", d, err)
	}
	if !sum.Verified() {
		return fault.New(fault.Corrupt, "blob %s is damaged: its bytes have another digest", d)
	}
	if misfit != nil {
		return fmt.Errorf("layer %s: %w", d, misfit)
	}
	return nil
}

// fits checks a layer without decompressing it. The layer must be a tar or compressed, and its
// digest must be the diffID exactly if it is a plain tar. Its media type does not matter.
func fits(layer io.ReaderAt, diffID, blob digest.Digest) error {
	format, err := codec.Of(layer)
	switch {
	case err != nil:
		return err
	case format == codec.Unknown:
		return fault.New(fault.Corrupt, "it is neither a tar nor compressed with gzip, zstd, xz or bzip2")
	case format.Compressed() && diffID == blob:
		return fault.New(fault.Corrupt, "it is compressed with %s, and the image's config has the digest of that for its diffID", format)
	case !format.Compressed() && diffID != blob && diffID.Algorithm() == blob.Algorithm():
		return fault.New(fault.Corrupt, "it is not compressed, and the image's config has another diffID, %s", diffID)
	}
	return nil
}

// counted calls done with the number of bytes of each Read.
type counted struct {
	r    io.Reader
	done func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done(int64(n))
	return n, err
}

// Ours reports whether fastpull has written the bundle.
func (r *Reader) Ours() bool {
	_, ok := r.members[sumsName]
	return ok
}

// verifyFrame compares everything but the blobs with the bytes that a Writer would write.
func (r *Reader) verifyFrame() (errs []error) {
	if !r.Ours() {
		return nil
	}
	others := 0
	for _, name := range slices.Sorted(maps.Keys(r.members)) {
		ours, err := r.verifyMember(name, r.members[name])
		if err != nil {
			errs = append(errs, err)
		}
		if !ours {
			others++
		}
	}
	if others == len(r.members) {
		return []error{fault.WithHint(fault.New(fault.Corrupt, "no file in it has the header that fastpull writes: another program has packed it anew"),
			"take the bundle as fastpull has made it")}
	}
	var sums bytes.Buffer
	for _, name := range []string{layoutName, indexName, manifestName, repositoriesName} {
		data, err := r.document(name)
		if err != nil {
			return append(errs, err)
		}
		fmt.Fprintf(&sums, "%s  %s\n", digest.FromBytes(data).Encoded(), name)
		line := sums.String()[strings.LastIndexByte(strings.TrimSuffix(sums.String(), "\n"), '\n')+1:]
		if want, err := r.document(sumsName); err == nil && !strings.Contains(string(want), line) {
			errs = append(errs, fault.New(fault.Corrupt, "%s is damaged: %s has another digest for it", name, sumsName))
		}
	}
	if want, err := r.document(sumsName); err != nil || !bytes.Equal(want, sums.Bytes()) {
		errs = append(errs, fault.New(fault.Corrupt, "%s is not what it should be", sumsName))
	}
	rest := io.NewSectionReader(r.src, r.end, r.src.Size()-r.end)
	if r.src.Size() != r.end+2*blockSize || !zero(rest) {
		errs = append(errs, fault.New(fault.Corrupt, "its end, from byte %d on, is not what it should be", r.end))
	}
	return errs
}

// verifyMember checks a file's header and padding. ours reports whether a Writer would write the
// same header.
func (r *Reader) verifyMember(name string, m member) (ours bool, err error) {
	want, err := header(name, m.size)
	if err != nil {
		return false, err
	}
	got := make([]byte, len(want))
	if _, err := r.src.ReadAt(got, m.header); err != nil {
		return false, err
	}
	if m.off != m.header+int64(len(want)) || !bytes.Equal(got, want) {
		return false, fault.New(fault.Corrupt, "the header of %s is damaged", name)
	}
	if !zero(io.NewSectionReader(r.src, m.off+m.size, padding(m.size))) {
		return true, fault.New(fault.Corrupt, "what follows %s is damaged", name)
	}
	return true, nil
}

// zero reports whether there is nothing but zeroes.
func zero(r io.Reader) bool {
	data, err := io.ReadAll(io.LimitReader(r, 64<<10))
	return err == nil && len(bytes.Trim(data, "\x00")) == 0
}
