package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/disk"
	"github.com/fastpull/fastpull/progress"
	"github.com/fastpull/fastpull/registry"
)

// scripted is a source whose blobs arrive as given, one version for each time that the
// blob is opened.
type scripted struct {
	versions [][]byte
	opened   int
	last     *scriptedBlob
}

func (s *scripted) Resumable(int64) bool { return false }

func (s *scripted) Download(context.Context, registry.Reference, ocispec.Descriptor, registry.Target, func()) (Blob, error) {
	s.last = &scriptedBlob{r: bytes.NewReader(s.versions[s.opened])}
	s.opened++
	return s.last, nil
}

type scriptedBlob struct {
	r          *bytes.Reader
	n          int64
	distrusted bool
}

func (b *scriptedBlob) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	return n, err
}
func (b *scriptedBlob) Close() error               { return nil }
func (b *scriptedBlob) Fetched() int64             { return b.n }
func (b *scriptedBlob) Came() <-chan struct{}      { return nil }
func (b *scriptedBlob) Whole() (n int64, all bool) { return 0, false }
func (b *scriptedBlob) InSection() bool            { return false }
func (b *scriptedBlob) Discard() error             { return nil }
func (b *scriptedBlob) Distrust() error            { b.distrusted = true; return nil }

func (b *scriptedBlob) MoveTo(string, bool) (bool, error) { return false, nil }

// sample is a layer of 3 MB, its blob and its plain bytes.
func sample(t *testing.T) (l image.Layer, blob, plain []byte) {
	t.Helper()
	plain = make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{7}).Read(plain[:1<<20]) // the rest compresses
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	blob = z.Bytes()
	l = image.Layer{Blob: ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}, DiffID: digest.FromBytes(plain)}
	return l, blob, plain
}

// start returns a fetcher of blobs that arrive as given, and a request for the layer.
func start(t *testing.T, l image.Layer, versions ...[]byte) (*Fetcher, *scripted, Request) {
	t.Helper()
	s := &scripted{versions: versions}
	f := &Fetcher{Source: s, Slots: NewSlots(1), Cores: decode.NewCores(1)}
	return f, s, Request{
		Layer: l, Task: (*progress.Display)(nil).Task("layer", l.Blob.Size), Space: disk.NewSpace(disk.Options{Dir: t.TempDir()}),
	}
}

// copyTo returns a reader of a layer that starts over each time it is called.
func copyTo(b *bytes.Buffer) func(io.Reader) error {
	return func(r io.Reader) error {
		b.Reset()
		_, err := io.Copy(b, r)
		return err
	}
}

// TestForms fetches a layer as the plain tar, as the blob and as both. The first download
// arrives damaged, so that it is fetched twice, and what was made of it is void.
func TestForms(t *testing.T) {
	l, blob, plain := sample(t)
	damaged := bytes.Clone(blob)
	damaged[len(damaged)/2] ^= 1
	var gotBlob, gotPlain bytes.Buffer
	for _, tc := range []struct {
		name        string
		fetch       func(*Fetcher, Request) (int64, error)
		blob, plain []byte
	}{
		{"plain", func(f *Fetcher, q Request) (int64, error) {
			return f.Plain(t.Context(), q, copyTo(&gotPlain))
		}, nil, plain},
		{"blob", func(f *Fetcher, q Request) (int64, error) {
			return f.Blob(t.Context(), q, func(r io.Reader, inTarget bool) error {
				if inTarget {
					t.Error("there is no place")
				}
				return copyTo(&gotBlob)(r)
			})
		}, blob, nil},
		{"both", func(f *Fetcher, q Request) (int64, error) {
			return f.Both(t.Context(), q, copyTo(&gotBlob), copyTo(&gotPlain))
		}, blob, plain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			gotBlob.Reset()
			gotPlain.Reset()
			f, s, q := start(t, l, damaged, blob)
			n, err := tc.fetch(f, q)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(gotBlob.Bytes(), tc.blob) || !bytes.Equal(gotPlain.Bytes(), tc.plain) {
				t.Errorf("%d bytes of blob and %d of plain tar, want %d and %d", gotBlob.Len(), gotPlain.Len(), len(tc.blob), len(tc.plain))
			}
			if s.opened != 2 || n != int64(len(damaged)+len(blob)) || n != f.Fetched() {
				t.Errorf("opened %d times, %d bytes, %d in all", s.opened, n, f.Fetched())
			}
			if f.Slots.free != 1 {
				t.Error("the slot is not given back")
			}
		})
	}
}

// TestDamagedTwice: a blob that arrives damaged again is an error.
func TestDamagedTwice(t *testing.T) {
	l, blob, _ := sample(t)
	short := blob[:len(blob)-1]
	for name, fetch := range map[string]func(*Fetcher, Request) (int64, error){
		"blob": func(f *Fetcher, q Request) (int64, error) {
			return f.Blob(t.Context(), q, func(r io.Reader, _ bool) error { _, err := io.Copy(io.Discard, r); return err })
		},
		"both": func(f *Fetcher, q Request) (int64, error) {
			return f.Both(t.Context(), q, copyTo(new(bytes.Buffer)), copyTo(new(bytes.Buffer)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, s, q := start(t, l, short, short, blob)
			_, err := fetch(f, q)
			if fault.KindOf(err) != fault.Corrupt || !errors.Is(err, decode.ErrDigest) || s.opened != 2 || !s.last.distrusted {
				t.Errorf("opened %d times: %v", s.opened, err)
			}
		})
	}
}

// TestBothFails: when one of the two readers fails, or stops early, the other one ends,
// and the error is that of the first.
func TestBothFails(t *testing.T) {
	l, blob, _ := sample(t)
	broken := errors.New("the disk is full")
	fail := func(r io.Reader) error {
		if _, err := io.CopyN(io.Discard, r, 100<<10); err != nil {
			t.Error(err)
		}
		return broken
	}
	stop := func(io.Reader) error { return nil }
	all := copyTo(new(bytes.Buffer))
	for _, tc := range []struct {
		name        string
		blob, plain func(io.Reader) error
		want        string
	}{
		{"blob", fail, all, broken.Error()},
		{"plain", all, fail, broken.Error()},
		{"both", fail, fail, broken.Error()},
		{"blob not read", stop, all, errUnread.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, s, q := start(t, l, blob)
			done := make(chan error, 1)
			go func() { _, err := f.Both(t.Context(), q, tc.blob, tc.plain); done <- err }()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), tc.want) || tc.want == broken.Error() && errors.Is(err, errUnread) && tc.name != "plain" {
					t.Errorf("error: %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it waits for ever")
			}
			if s.opened != 1 || f.Slots.free != 1 {
				t.Errorf("opened %d times, %d slots free", s.opened, f.Slots.free)
			}
		})
	}
}

// TestCancel: the end of the context ends a fetch whose readers wait.
func TestCancel(t *testing.T) {
	l, blob, _ := sample(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	f, _, q := start(t, l, blob)
	why := errors.New("interrupted")
	_, err := f.Both(ctx, q, func(r io.Reader) error {
		cancel(why)
		_, err := io.Copy(io.Discard, r)
		return err
	}, func(r io.Reader) error {
		<-ctx.Done()
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if !errors.Is(err, why) {
		t.Errorf("error: %v", err)
	}
}

// TestHave: a blob that the destination has is not downloaded. One that is damaged there is.
func TestHave(t *testing.T) {
	l, blob, plain := sample(t)
	broken := bytes.Clone(blob)
	broken[len(broken)/2] ^= 1
	for _, c := range []struct {
		name    string
		have    []byte
		fetched int64
	}{{"whole", blob, 0}, {"damaged", broken, int64(len(blob))}} {
		f, s, q := start(t, l, blob)
		q.Have = func(context.Context) (Blob, error) { return &had{scriptedBlob{r: bytes.NewReader(c.have)}}, nil }
		var got []byte
		n, err := f.Plain(t.Context(), q, func(r io.Reader) (err error) {
			got, err = io.ReadAll(r)
			return err
		})
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		}
		if n != c.fetched || f.Fetched() != c.fetched || (s.opened > 0) != (c.fetched > 0) {
			t.Errorf("%s: %d bytes were fetched, want %d", c.name, n, c.fetched)
		}
	}
}

// had is a blob that downloads nothing.
type had struct{ scriptedBlob }

func (*had) Fetched() int64 { return 0 }
