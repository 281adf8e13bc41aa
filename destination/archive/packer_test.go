package archive

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/privilege"
	"github.com/fastpull/fastpull/registry"
)

// TestAgree refuses manifests that say different things of a blob, where they are kept.
func TestAgree(t *testing.T) {
	one, two, three := digest.FromString("one"), digest.FromString("two"), digest.FromString("three")
	of := func(d digest.Digest, size int64, diffID digest.Digest) *bundled {
		return &bundled{images: []platformImage{{img: &image.Image{Layers: []image.Layer{
			{Blob: ocispec.Descriptor{Digest: d, Size: size}, DiffID: diffID},
		}}}}}
	}
	also := func(d digest.Digest, size int64) *bundled {
		return &bundled{referrers: []referrer{{blobs: []ocispec.Descriptor{{Digest: d, Size: size}}}}}
	}
	for _, tc := range []struct {
		name string
		form bundle.Form
		all  []*bundled
		say  string
	}{
		{"the same", bundle.Keep, []*bundled{of(one, 5, two), of(one, 5, two), also(one, 5)}, ""},
		{"two sizes", bundle.Keep, []*bundled{of(one, 5, two), of(one, 6, two)}, "named with 5 bytes and with 6"},
		{"another size of a referrer", bundle.Keep, []*bundled{also(one, 5), of(one, 6, two)}, "named with 5 bytes and with 6"},
		{"two diffIDs", bundle.Keep, []*bundled{also(one, 5), of(one, 5, two), of(one, 5, three)}, "has the diffID " + two.String()},
		{"plain ones", bundle.Plain, []*bundled{of(one, 5, two), of(one, 6, two)}, ""},
	} {
		p := &packer{form: tc.form, said: make(map[digest.Digest]image.Layer)}
		var err error
		for _, b := range tc.all {
			err = errors.Join(err, p.agree(b))
		}
		if tc.say == "" && err != nil || tc.say != "" && (fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), tc.say)) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// source has one blob, which is in its file when it is opened.
type source struct {
	data      []byte
	discarded int // files of the blob
}

func (s *source) Resumable(int64) bool { return false }

func (s *source) Download(context.Context, registry.Reference, ocispec.Descriptor, registry.Target, func()) (fetch.Blob, error) {
	came := make(chan struct{})
	close(came)
	return &blob{bytes.NewReader(s.data), s, came}, nil
}

type blob struct {
	*bytes.Reader
	s    *source
	came chan struct{}
}

func (b *blob) Close() error               { return nil }
func (b *blob) Fetched() int64             { return b.Size() }
func (b *blob) Came() <-chan struct{}      { return b.came }
func (b *blob) Whole() (n int64, all bool) { return b.Size(), true }
func (b *blob) InSection() bool            { return false }
func (b *blob) Discard() error             { b.s.discarded++; return nil }
func (b *blob) Distrust() error            { return nil }

func (b *blob) MoveTo(string, bool) (bool, error) { return false, nil }

// noise is a layer of 2 MiB that does not compress, and its blob.
func noise(t *testing.T) (image.Layer, []byte) {
	t.Helper()
	plain := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{1}).Read(plain)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return image.Layer{
		Blob:   ocispec.Descriptor{Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len())},
		DiffID: digest.FromBytes(plain),
	}, b.Bytes()
}

// open opens an archive of a test.
func open(t *testing.T, name string, o Options) *archive {
	t.Helper()
	d, err := Open(t.Context(), &destination.Env{Rights: privilege.Current(), LeftOut: new(destination.LeftOut)}, name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.(*archive)
}

// TestSink: a layer whose turn it is goes into the archive, and another one into a file
// of its own. In both cases its blob is kept meanwhile.
func TestSink(t *testing.T) {
	layer, data := noise(t)
	for _, form := range []bundle.Form{bundle.Keep, bundle.Plain} {
		for _, turn := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, turn=%v", form, turn), func(t *testing.T) {
				// One in parts is no draft, where the layer would be reserved.
				a := open(t, filepath.Join(t.TempDir(), "a.tar"), Options{Layers: form, Split: 1 << 30})
				s := &source{data: data}
				f := fetch.New(s, 1, "", nil)
				f.Partial = fetch.NewPartialBlobs(t.TempDir())
				key := a.pack.key(layer)
				a.pack.turns.take(key)
				if turn {
					a.pack.turn(key)
				}
				got, err := a.pack.make(t.Context(), layer, destination.NewContent(f, registry.Reference{}, layer, nil, new(atomic.Int64)))
				if err != nil {
					t.Fatal(err)
				}
				if (got.f == nil) != turn || a.w.Has(got.desc.Digest) != turn {
					t.Errorf("it is in a file of its own: %v, and in the archive: %v", got.f != nil, a.w.Has(got.desc.Digest))
				}
				if s.discarded != 0 {
					t.Error("its blob is not kept")
				}
				if f.Partial.ReleaseAll(); s.discarded != 1 {
					t.Error("its blob is left")
				}
				if !turn {
					data, err := io.ReadAll(io.NewSectionReader(got.f, 0, got.size))
					if err != nil || digest.FromBytes(data) != key || got.desc.Size != int64(len(data)) {
						t.Errorf("%d bytes, %v", len(data), err)
					}
				}
				got.Close()
			})
		}
	}
}

// TestFinishWaits: nothing that an image which failed has begun is written to the bundle
// while that is finished.
func TestFinishWaits(t *testing.T) {
	name := filepath.Join(t.TempDir(), "b.tar")
	a := open(t, name, Options{Layers: bundle.Keep})
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{})
	go func() { // the image fails
		<-begun
		cancel()
	}()
	if _, err := a.spool.Get(ctx, t.Context(), "a layer", "", func(ctx context.Context) (*packed, error) {
		close(begun)
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond) // a disk that is slow
		if _, err := os.Lstat(name); err == nil {
			t.Error("the bundle has its name, and something is written to it")
		}
		return nil, ctx.Err()
	}); err == nil {
		t.Fatal("the call has ended before it was cancelled")
	}
	if err := a.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
}
