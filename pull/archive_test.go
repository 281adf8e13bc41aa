package pull

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/registry"
)

// loaded is an image as an Engine finds it in an archive.
type loaded struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// readArchive returns the images and the files of an archive.
func readArchive(t *testing.T, r io.Reader) ([]loaded, map[string][]byte) {
	t.Helper()
	files := make(map[string][]byte)
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name] != nil {
			t.Errorf("%s is there twice", h.Name)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
	var images []loaded
	if err := json.Unmarshal(files["manifest.json"], &images); err != nil {
		t.Fatal(err)
	}
	return images, files
}

func openArchive(t *testing.T, name string) ([]loaded, map[string][]byte) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return readArchive(t, f)
}

func archiveOptions(name string, refs ...registry.Reference) to {
	return to{Kind: "output", Path: name, Options: Options{References: refs}}
}

// entries lists the names in a directory.
func entries(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestArchive has more images than are worked on at a time: a layer that was
// written long before is not fetched again.
func TestArchive(t *testing.T) {
	s := serve(t)
	base, x := noise(t, "base", 300<<10), noise(t, "x", 1<<10)
	images := [][]v1.Layer{{base}, {base, x}, {x, base}, {x, x}, {base, x}}
	var refs []registry.Reference
	for i, layers := range images {
		refs = append(refs, s.push(t, fmt.Sprintf("img%d:tag", i), layers...))
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "out.tar")
	if err := os.WriteFile(name, []byte("the one before"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	sum, err := pull(t, t.Context(), archiveOptions(link, refs...))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []v1.Layer{base, x} {
		if n := s.got(blobOf(l)); n != 1 {
			t.Errorf("layer %s was fetched %d times", blobOf(l), n)
		}
	}
	if got := entries(t, dir); got != "out.tar" {
		t.Errorf("in the folder: %s", got)
	}
	got, files := openArchive(t, name)
	if len(got) != len(images) {
		t.Fatalf("%d images in the archive", len(got))
	}
	for i, layers := range images {
		n := slices.IndexFunc(got, func(l loaded) bool { return slices.Equal(l.RepoTags, []string{refs[i].String()}) })
		if n < 0 {
			t.Errorf("%s is not in the archive", refs[i])
			continue
		}
		if want := "blobs/sha256/" + sum.Images[i].ImageID.Encoded(); got[n].Config != want || len(files[want]) == 0 {
			t.Errorf("%s: config %s, want %s", refs[i], got[n].Config, want)
		}
		var want [][]byte
		for _, l := range layers {
			want = append(want, l.(*testLayer).plain)
		}
		var have [][]byte
		for _, l := range got[n].Layers {
			have = append(have, files[l])
		}
		if !slices.EqualFunc(have, want, bytes.Equal) {
			t.Errorf("%s: %d layers that are not those of the image", refs[i], len(have))
		}
	}
}

// TestArchiveFails: an archive that does not become whole leaves the one before
// as it was, and nothing else, whatever KeepGoing says.
func TestArchiveFails(t *testing.T) {
	s := serve(t)
	good, bad := noise(t, "good", 1<<10), noise(t, "bad", 1<<20)
	fine, damaged := s.push(t, "fine:tag", good), s.push(t, "damaged:tag", good, bad)
	dir := t.TempDir()
	name := filepath.Join(dir, "out.tar")
	for _, keepGoing := range []bool{false, true} {
		if err := os.WriteFile(name, []byte("the one before"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.spoil = flip(always, bad)
		o := archiveOptions(name, damaged)
		o.KeepGoing = keepGoing
		if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), blobOf(bad)) {
			t.Errorf("error: %v", err)
		}
		if got, err := os.ReadFile(name); string(got) != "the one before" {
			t.Errorf("the archive is %q now, %v", got, err)
		}
		if got := entries(t, dir); got != "out.tar" {
			t.Errorf("in the folder: %s", got)
		}
	}

	// One of two: the archive has the other.
	o := archiveOptions(name, damaged, fine)
	o.KeepGoing = true
	if _, err := pull(t, t.Context(), o); fault.KindOf(err) != fault.Failed {
		t.Errorf("error: %v", err)
	}
	if got, _ := openArchive(t, name); len(got) != 1 || got[0].RepoTags[0] != fine.String() {
		t.Errorf("in the archive: %v", got)
	}

	// Damaged once.
	s.reset()
	s.spoil = flip(1, bad)
	if _, err := pull(t, t.Context(), archiveOptions(name, damaged)); err != nil {
		t.Fatal(err)
	}
	got, files := openArchive(t, name)
	if len(got) != 1 || !bytes.Equal(files[got[0].Layers[1]], bad.(*testLayer).plain) || s.got(blobOf(bad)) != 2 {
		t.Errorf("damaged once: %v, fetched %d times", got, s.got(blobOf(bad)))
	}
}

// TestArchiveRefuses what a rename must not take the place of, before anything
// is fetched.
func TestArchiveRefuses(t *testing.T) {
	s := serve(t)
	ref := s.push(t, "img:tag", layer(t))
	dir := t.TempDir()
	fifo, null := filepath.Join(dir, "fifo"), filepath.Join(dir, "null")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), unix.Mknod(null, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Symlink(null, filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fifo, null, filepath.Join(dir, "link"), dir, filepath.Join(dir, "b.tar"+bundle.DraftSuffix)} {
		if _, err := pull(t, t.Context(), archiveOptions(name, ref)); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("-o %s: %v", name, err)
		}
	}
	if _, err := pull(t, t.Context(), archiveOptions(filepath.Join(dir, "none/out"), ref)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if st, err := os.Stat(null); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("the device is %v now", st.Mode())
	}
	if got := entries(t, dir); got != "fifo link null" || s.got("manifests") != 0 {
		t.Errorf("in the folder: %s; %d requests", got, s.got("manifests"))
	}
}

// TestArchiveByDigest: without a tag there is none in the archive.
func TestArchiveByDigest(t *testing.T) {
	s := serve(t)
	s.push(t, "img:tag", layer(t))
	name := filepath.Join(t.TempDir(), "out")
	sum, err := pull(t, t.Context(), archiveOptions(name, s.ref(t, "img:tag")))
	if err != nil {
		t.Fatal(err)
	}
	ref := s.ref(t, "img@"+sum.Images[0].Digest.String())
	if _, err := pull(t, t.Context(), archiveOptions(name, ref)); err != nil {
		t.Fatal(err)
	}
	if got, _ := openArchive(t, name); len(got) != 1 || got[0].RepoTags != nil {
		t.Errorf("in the archive: %+v", got)
	}
}

// TestSpoolErrors: an error of the registry does not sound like one of the disk,
// and that there is no such folder is said with its name.
func TestSpoolErrors(t *testing.T) {
	s := serve(t)
	bad := noise(t, "bad", 1<<10)
	ref := s.push(t, "img:tag", bad)
	s.spoil = flip(always, bad)
	dir := t.TempDir()
	if _, err := pull(t, t.Context(), archiveOptions(dir+"/out", ref)); err == nil || strings.Contains(err.Error(), dir) {
		t.Errorf("error: %v", err)
	}
}
