package bundle

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// draft begins one, or goes on with it.
func draft(t *testing.T, name string) (*File, *Writer) {
	t.Helper()
	f, err := Create(name, FileOptions{Sync: true, Resume: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if !f.draft {
		t.Fatal("it is no draft")
	}
	return f, NewWriter(f)
}

// reserveBlob returns the reservation of a blob.
func reserveBlob(t *testing.T, w *Writer, content string) *Reservation {
	t.Helper()
	p, err := w.Reserve(digest.FromString(content), int64(len(content)))
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	return p
}

// comes has a blob come into its section, of which the first bytes may be there.
func comes(t *testing.T, p *Reservation, content string, from, to int) {
	t.Helper()
	f, err := p.Open(p.Blob, p.Size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Writer(int64(from)).Write([]byte(content[from:to])); err != nil {
		t.Fatal(err)
	}
}

func done(t *testing.T, p *Reservation) {
	t.Helper()
	if err := p.Done(); err != nil {
		t.Fatal(err)
	}
}

// end ends a bundle of one entry, and returns its bytes.
func end(t *testing.T, f *File, w *Writer) []byte {
	t.Helper()
	w.Docker(testImage(t, "x"), []string{"host/img:tag"}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	publish(t, f)
	if left, _ := filepath.Glob(f.Name() + "*"); len(left) != 1 {
		t.Errorf("in the folder: %q", left)
	}
	return joined(t, f)
}

// known returns the bytes of a bundle with these blobs.
func known(t *testing.T, blobs ...string) []byte {
	t.Helper()
	f := create(t, filepath.Join(t.TempDir(), "known"), 0)
	w := NewWriter(f)
	for _, b := range blobs {
		add(t, w, b)
	}
	return end(t, f, w)
}

// content is what does not compress.
func content(seed uint64, size int) string {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return string(b)
}

// TestReserve has blobs come in another order than they have in the bundle, one of them
// damaged at first: the file is that of a Writer that had them one after the other.
func TestReserve(t *testing.T) {
	blobs := []string{content(1, 100_000), content(2, 511), "", content(3, 70_000), content(4, 512)}
	f, w := draft(t, filepath.Join(t.TempDir(), "b.tar"))
	var reservations []*Reservation
	for i, b := range blobs {
		reservations = append(reservations, reserveBlob(t, w, b))
		if i == 2 {
			add(t, w, "a manifest")
		}
	}
	if again := reserveBlob(t, w, blobs[3]); again != reservations[3] {
		t.Error("a blob has two places")
	}
	add(t, w, blobs[1]) // somebody else needs it as well
	for _, i := range []int{3, 1, 4, 2, 0} {
		p := reservations[i]
		if w.Has(p.Blob) {
			t.Errorf("blob %d is there before it has come", i)
		}
		if i%2 == 0 {
			io.WriteString(p, strings.Repeat("x", len(blobs[i])/2))
			p.Reset()
			if n, err := io.WriteString(p, blobs[i]); n != len(blobs[i]) || err != nil {
				t.Fatal(n, err)
			}
			if _, err := p.Write([]byte("more")); err == nil {
				t.Error("more than its size was written to a place")
			}
		} else {
			comes(t, p, blobs[i], 0, len(blobs[i]))
		}
		done(t, p)
		if p, err := w.Reserve(p.Blob, p.Size); p != nil || err != nil || !w.Has(reservations[i].Blob) {
			t.Errorf("blob %d has come, and has a place again: %v, %v", i, p, err)
		}
	}
	if got := end(t, f, w); !bytes.Equal(got, known(t, blobs[0], blobs[1], blobs[2], "a manifest", blobs[3], blobs[4])) {
		t.Error("it is another bundle")
	}
	if _, err := NewWriter(f).Reserve("sha256:x", 1<<60); err == nil {
		t.Error("a blob of 1 EiB got a place")
	}
}

// TestDraft is broken off, and goes on as the same bundle, as one that has more
// behind, and as another one: what comes before the first difference is still there.
func TestDraft(t *testing.T) {
	blobs := []string{content(1, 900_000), content(2, 800_000), content(3, 700_000)}
	other := content(4, 800_000)
	for _, tc := range []struct {
		name  string
		then  []string
		found []int64
	}{
		{"the same", blobs, []int64{900_000, 30 * 16384, 0}},
		{"more", append(slices.Clone(blobs), other), []int64{900_000, 30 * 16384, 0, 0}},
		{"shorter", blobs[:1], []int64{900_000}},
		{"another one", []string{blobs[0], other, blobs[1], blobs[2]}, []int64{900_000, 0, 0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "b.tar")
			f, w := draft(t, name)
			var reservations []*Reservation
			for _, b := range blobs {
				reservations = append(reservations, reserveBlob(t, w, b))
			}
			add(t, w, "a manifest")
			comes(t, reservations[0], blobs[0], 0, len(blobs[0]))
			done(t, reservations[0])
			comes(t, reservations[1], blobs[1], 0, 31*16384-1)
			comes(t, reservations[2], blobs[2], 16384, 20000)
			err := f.Close()
			if left, n := f.Left(); err != nil || left != name+DraftSuffix || n < minDraft {
				t.Fatalf("left is %q, %d bytes, %v", left, n, err)
			}

			f, w = draft(t, name)
			for i, b := range tc.then {
				p := reserveBlob(t, w, b)
				if p.Found() != tc.found[i] {
					t.Errorf("of blob %d %d bytes are there, want %d", i, p.Found(), tc.found[i])
				}
				comes(t, p, b, int(p.Found())/16384*16384, len(b))
				done(t, p)
			}
			if got := end(t, f, w); !bytes.Equal(got, known(t, tc.then...)) {
				t.Error("it is another bundle")
			}
		})
	}
}

// TestLongHeader: the name of a blob with SHA-512 does not fit into one block. Its
// header takes three, of which none may be one of the blob.
func TestLongHeader(t *testing.T) {
	blobs := []string{content(1, 1_500_000), content(2, 70_000), content(3, 5000)}
	want, w := func() ([]byte, *Writer) {
		f := create(t, filepath.Join(t.TempDir(), "known"), 0)
		w := NewWriter(f)
		for _, b := range blobs {
			if err := w.Blob(digest.SHA512.FromString(b), int64(len(b)), strings.NewReader(b)); err != nil {
				t.Fatal(err)
			}
		}
		return end(t, f, w), w
	}()
	if s, err := w.Stream(digest.SHA512.FromString("x")); s != nil || err != nil {
		t.Errorf("one can be written before its header is known: %v", err)
	}
	name := filepath.Join(t.TempDir(), "b.tar")
	allocate := func(w *Writer) (reservations []*Reservation) {
		for _, b := range blobs {
			p, err := w.Reserve(digest.SHA512.FromString(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			reservations = append(reservations, p)
		}
		return reservations
	}
	f, w := draft(t, name)
	reservations := allocate(w)
	comes(t, reservations[0], blobs[0], 0, 1_200_000)
	comes(t, reservations[2], blobs[2], 0, len(blobs[2]))
	done(t, reservations[2])
	err := f.Close()
	if left, _ := f.Left(); err != nil || left == "" {
		t.Fatalf("nothing was left, %v", err)
	}
	for last := range 2 { // a draft is known by its first blob
		f, w = draft(t, name)
		reservations = allocate(w)
		if n := reservations[0].Found(); n != 1_200_000/16384*16384 || !reservations[2].Whole {
			t.Errorf("%d bytes of the first are there, of the third all: %v", n, reservations[2].Whole)
		}
		if last == 1 {
			break
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	comes(t, reservations[0], blobs[0], 1_200_000/16384*16384, len(blobs[0]))
	comes(t, reservations[1], blobs[1], 0, len(blobs[1]))
	for _, p := range reservations {
		done(t, p)
	}
	if !bytes.Equal(end(t, f, w), want) {
		t.Error("it is another bundle")
	}
}

// TestGaps leaves out blobs that have not come.
func TestGaps(t *testing.T) {
	blobs := []string{content(1, 3000), content(2, 100_000), content(3, 5), content(4, 1<<20), content(5, 512)}
	for _, missing := range [][]int{{0}, {4}, {1, 2}, {0, 2, 4}, {0, 1, 2, 3, 4}} {
		f, w := draft(t, filepath.Join(t.TempDir(), "b.tar"))
		var reservations []*Reservation
		for _, b := range blobs {
			reservations = append(reservations, reserveBlob(t, w, b))
		}
		add(t, w, "a manifest")
		var there []string
		for i, p := range reservations {
			if slices.Contains(missing, i) {
				comes(t, p, blobs[i], 0, len(blobs[i])/2)
				continue
			}
			comes(t, p, blobs[i], 0, len(blobs[i]))
			done(t, p)
			there = append(there, blobs[i])
		}
		if got := end(t, f, w); !bytes.Equal(got, known(t, append(there, "a manifest")...)) {
			t.Errorf("without %v it is another bundle", missing)
		}
	}
}

// TestNoDraft: where there cannot be one, a bundle is made without, and nothing of
// anybody's is touched.
func TestNoDraft(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "b.tar")
	try := func(name string, o FileOptions) {
		t.Helper()
		o.Resume = true
		f, err := Create(name, o)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w := NewWriter(f)
		if f.draft {
			t.Errorf("%s is a draft", name)
		}
		if reservations := !f.compressed() && o.Split == 0; w.Reserves() != reservations {
			t.Errorf("%s: blobs can be reserved: %v", name, w.Reserves())
		}
		add(t, w, "a blob")
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		publish(t, f)
	}
	try(filepath.Join(dir, "b.tar.zst"), FileOptions{})
	try(name, FileOptions{Split: 700})

	if err := os.WriteFile(name+DraftSuffix, []byte("somebody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	try(name, FileOptions{})
	if got, err := os.ReadFile(name + DraftSuffix); string(got) != "somebody's" {
		t.Errorf("a file of that name is %q now, %v", got, err)
	}
	if err := os.Remove(name + DraftSuffix); err != nil {
		t.Fatal(err)
	}

	// One at a time, and one that was left goes when the bundle is made without it.
	f, w := draft(t, name)
	big := content(1, 2<<20)
	comes(t, reserveBlob(t, w, big), big, 0, len(big))
	try(name, FileOptions{})
	f.Close()
	if left, _ := f.Left(); left == "" {
		t.Error("the bytes downloaded are gone")
	}
	publish(t, create(t, name, 0))
	if _, err := os.Lstat(name + DraftSuffix); err == nil {
		t.Error("the draft of an older bundle is there")
	}

	// Of next to nothing, nothing stays.
	f, w = draft(t, name)
	reserveBlob(t, w, big)
	f.Close()
	if left, _ := f.Left(); left != "" {
		t.Errorf("%s was left, and nothing is in it", left)
	}
	if _, err := os.Lstat(name + DraftSuffix); err == nil {
		t.Error("a draft without anything is there")
	}
}

// TestNoReservation: a blob that cannot be reserved does not end the others.
func TestNoReservation(t *testing.T) {
	f, w := draft(t, filepath.Join(t.TempDir(), "b.tar"))
	blobs := []string{content(1, 3000), content(2, 100_000)}
	first := reserveBlob(t, w, blobs[0])
	good := f.parts[0].File
	bad, err := os.Open(good.Name()) // which cannot be written to
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	f.parts[0].File = bad
	if p, err := w.Reserve(digest.FromString("x"), 1<<40); err == nil {
		t.Errorf("it has a place at %d", p.At)
	}
	f.parts[0].File = good
	second := reserveBlob(t, w, blobs[1])
	comes(t, first, blobs[0], 0, len(blobs[0]))
	comes(t, second, blobs[1], 0, len(blobs[1]))
	done(t, first)
	done(t, second)
	if got := end(t, f, w); !bytes.Equal(got, known(t, blobs...)) {
		t.Error("it is another bundle")
	}
}
