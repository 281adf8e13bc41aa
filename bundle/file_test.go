package bundle

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// joined reads a published file, or its parts one behind the other.
func joined(t *testing.T, f *File) []byte {
	t.Helper()
	names := f.Parts()
	if names == nil {
		names = []string{f.Name()}
	}
	var all []byte
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	return all
}

func create(t *testing.T, name string, split int64) *File {
	t.Helper()
	f, err := Create(name, FileOptions{Split: split, Sync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func publish(t *testing.T, f *File) {
	t.Helper()
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := f.Publish(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// TestFile writes, goes back, cuts and copies at random, and has a slice do the
// same.
func TestFile(t *testing.T) {
	for _, split := range []int64{0, 1, 7, 64, 4096} {
		t.Run(fmt.Sprint(split), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, uint64(split)))
			f := create(t, filepath.Join(t.TempDir(), "out.tar"), split)
			var want []byte
			for range 300 {
				data := make([]byte, random.IntN(40))
				for i := range data {
					data[i] = byte(random.Uint32())
				}
				var err error
				switch at := int64(random.IntN(len(want) + 1)); random.IntN(5) {
				case 0:
					want = want[:at]
					err = f.Truncate(at)
				case 1:
					n := copy(want[at:], data)
					_, err = f.WriteAt(data[:n], at)
				case 2:
					want = append(want, data...)
					_, err = f.ReadFrom(bytes.NewReader(data))
				default:
					want = append(want, data...)
					_, err = f.Write(data)
				}
				if err != nil {
					t.Fatal(err)
				}
				if len(want) > 900 { // one byte a part is allowed no more
					want = want[:100]
					if err := f.Truncate(100); err != nil {
						t.Fatal(err)
					}
				}
				if f.Size() != int64(len(want)) {
					t.Fatalf("%d bytes, want %d", f.Size(), len(want))
				}
			}
			publish(t, f)
			if got := joined(t, f); !bytes.Equal(got, want) {
				t.Errorf("%d bytes that are not the %d that were written", len(got), len(want))
			}
			for i, part := range f.Parts() {
				st, err := os.Stat(part)
				if err != nil || st.Size() > split || st.Size() < split && i < len(f.Parts())-1 {
					t.Errorf("%s: %v, %v", part, st, err)
				}
			}
		})
	}
}

// TestFileCopies has the kernel copy from a file, across parts.
func TestFileCopies(t *testing.T) {
	dir := t.TempDir()
	data := bytes.Repeat([]byte("0123456789"), 1000)
	if err := os.WriteFile(filepath.Join(dir, "in"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, split := range []int64{0, 999} {
		in, err := os.Open(filepath.Join(dir, "in"))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		f := create(t, filepath.Join(dir, fmt.Sprint("out", split)), split)
		if _, err := f.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if n, err := f.ReadFrom(in); n != int64(len(data)) || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		publish(t, f)
		if got := joined(t, f); string(got) != "x"+string(data) {
			t.Errorf("split %d: %d bytes", split, len(got))
		}
	}
}

// TestFileCompresses reads back what has a name that says so.
func TestFileCompresses(t *testing.T) {
	data := bytes.Repeat([]byte("a layer "), 1<<16)
	for name, open := range map[string]func(io.Reader) (io.Reader, error){
		"a.tar.gz":  func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"a.tgz":     func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"a.tar.zst": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
		"a.tzst":    func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		for _, split := range []int64{0, 100} {
			f := create(t, filepath.Join(t.TempDir(), name), split)
			if s, err := NewWriter(f).Stream(""); s != nil || err != nil {
				t.Errorf("%s: what is compressed cannot be changed again: %v, %v", name, s, err)
			}
			if _, err := f.Write(data); err != nil {
				t.Fatal(err)
			}
			publish(t, f)
			packed := joined(t, f)
			r, err := open(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); !bytes.Equal(got, data) || err != nil || len(packed) > len(data)/50 {
				t.Errorf("%s: %d bytes, packed %d, %v", name, len(got), len(packed), err)
			}
		}
	}
}

// TestFileEnds: what is not published leaves nothing, and what is takes the place
// of what was there, with all its parts.
func TestFileEnds(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.tar", "a.tar.gz", "a.tar.zst"} {
		f := create(t, filepath.Join(dir, name), 10)
		if _, err := f.Write(make([]byte, 1<<20)); name == "a.tar" && (err == nil || !strings.Contains(err.Error(), "more than 999 parts")) {
			t.Errorf("too many parts: %v", err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, size := range []int{55, 25} {
		f := create(t, filepath.Join(dir, "b.tar"), 10)
		if _, err := f.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		publish(t, f)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 3 {
		t.Errorf("of a bundle of three parts there are %v", left)
	}
}

// TestStream writes blobs whose size is not known before, one of them twice, one
// that is given up, and one that begins anew: the file is that of a Writer that
// knew it all.
func TestStream(t *testing.T) {
	for _, split := range []int64{0, 700} {
		dir := t.TempDir()
		known := create(t, filepath.Join(dir, "known"), split)
		unknown := create(t, filepath.Join(dir, "unknown"), split)
		k, u := NewWriter(known), NewWriter(unknown)
		for i, size := range []int{0, 1, 511, 512, 513, 2000} {
			data := strings.Repeat("x", size)
			d := digest.FromString(data)
			add(t, k, data)
			s, err := u.Stream("")
			if err != nil || s == nil {
				t.Fatal(s, err)
			}
			io.WriteString(s, "what comes damaged")
			switch i % 3 {
			case 1:
				err = s.Reset()
			default:
				if err = s.Abort(); err == nil {
					s, err = u.Stream("")
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(s, data)
			if n, err := s.Commit(d); n != int64(size) || err != nil || !u.Has(d) {
				t.Errorf("%d: %d, %v", size, n, err)
			}
			again, err := u.Stream("")
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(again, data)
			if _, err := again.Commit(d); err != nil {
				t.Fatal(err)
			}
		}
		for _, w := range []*Writer{k, u} {
			w.Entry(Entry{Name: "host/img:tag", Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1}}.Annotated())
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if k.Index() != u.Index() || k.Index() == "" {
			t.Errorf("index %s and %s", k.Index(), u.Index())
		}
		publish(t, known)
		publish(t, unknown)
		if !bytes.Equal(joined(t, known), joined(t, unknown)) {
			t.Errorf("split %d: other bytes", split)
		}
	}
}
