package overlay

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/image"
	"github.com/fastpull/fastpull/internal/testkit"
)

// allKinds is a layer with one of everything that can be damaged.
func allKinds(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	at := time.Unix(1e9, 0)
	for _, e := range []struct {
		tar.Header
		content string
	}{
		{tar.Header{Typeflag: tar.TypeDir, Name: "etc/", Mode: 0o755}, ""},
		{tar.Header{Name: "etc/passwd", Mode: 0o644, Uid: 7, Gid: 8}, "root:x:0:0"},
		{tar.Header{Name: "etc/shadow", Mode: 0o600, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}}, "secret"},
		{tar.Header{Name: "etc/empty", Mode: 0o600}, ""},
		{tar.Header{Typeflag: tar.TypeLink, Name: "etc/passwd-", Linkname: "etc/passwd", Mode: 0o644, Uid: 7, Gid: 8}, ""},
		{tar.Header{Typeflag: tar.TypeSymlink, Name: "sbin", Linkname: "usr/sbin", Mode: 0o777}, ""},
		{tar.Header{Name: "usr/sbin/su", Mode: 0o4755}, "su"},
		{tar.Header{Name: "sbin/by-link", Mode: 0o755}, "behind a symlink"},
		{tar.Header{Typeflag: tar.TypeChar, Name: "dev/null", Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
		{tar.Header{Typeflag: tar.TypeFifo, Name: "run/pipe", Mode: 0o600}, ""},
		{tar.Header{Name: "var/.wh.gone"}, ""},
		{tar.Header{Name: "tmp/.wh..wh..opq"}, ""},
		{tar.Header{Name: "tmp/.wh.hidden-anyway"}, ""},
		{tar.Header{Name: "big", Mode: 0o644}, strings.Repeat("0123456789", 60_000)},
	} {
		e.ModTime, e.Size = at, int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, e.content)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// verifyStore makes an image of a plain layer, one of everything and one on top.
func verifyStore(t *testing.T) (*Store, *image.Image) {
	t.Helper()
	s := openTest(t, t.TempDir())
	var parent digest.Digest
	var diffIDs []digest.Digest
	for _, plain := range [][]byte{tarOf("base", "x"), allKinds(t), tarOf("top", "y")} {
		chain, err := put(s, parent, plain)
		if err != nil {
			t.Fatal(err)
		}
		parent = chain
		diffIDs = append(diffIDs, digest.FromBytes(plain))
	}
	img := imageOf(t, "v", diffIDs...)
	record(t, s, img, "v:1")
	return s, img
}

func TestVerify(t *testing.T) {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, content string) error { return os.WriteFile(name, []byte(content), 0o644) }
	keepTime := func(name string, do func() error) error {
		st, err := os.Stat(name)
		if err != nil {
			return err
		}
		if err := do(); err != nil {
			return err
		}
		return os.Chtimes(name, st.ModTime(), st.ModTime())
	}
	for _, tc := range []struct {
		name   string
		damage func(s *Store, diff, entry string, img *image.Image) error
		want   []string // a part of each error, in order
	}{
		{"none", func(*Store, string, string, *image.Image) error { return nil }, nil},
		{"a byte", func(_ *Store, diff, _ string, _ *image.Image) error {
			return keepTime(diff+"/big", func() error {
				f, err := os.OpenFile(diff+"/big", os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = f.WriteAt([]byte("X"), 400_000)
				return err
			})
		}, []string{"(of v:1): big: its content"}},
		{"a mode", func(_ *Store, diff, _ string, _ *image.Image) error { return os.Chmod(diff+"/etc/shadow", 0o644) }, []string{"etc/shadow: its mode is 0644, not 0600"}},
		{"a setuid bit", func(_ *Store, diff, _ string, _ *image.Image) error { return os.Chmod(diff+"/usr/sbin/su", 0o755) }, []string{"usr/sbin/su: its mode is 0755, not 4755"}},
		{"the mode of a directory", func(_ *Store, diff, _ string, _ *image.Image) error { return os.Chmod(diff+"/etc", 0o777) }, []string{"etc: its mode"}},
		{"an owner, of two names", func(_ *Store, diff, _ string, _ *image.Image) error { return os.Chown(diff+"/etc/passwd-", 7, 9) }, []string{"etc/passwd-: its owner is 7:9, not 7:8"}},
		{"the owner of a symlink", func(_ *Store, diff, _ string, _ *image.Image) error { return os.Lchown(diff+"/sbin", 1, 0) }, []string{"sbin: its owner"}},
		{"a file that is gone", func(_ *Store, diff, _ string, _ *image.Image) error { return os.Remove(diff + "/usr/sbin/by-link") }, []string{"usr/sbin/by-link: it is missing"}},
		{"an empty one", func(_ *Store, diff, _ string, _ *image.Image) error { return os.Remove(diff + "/etc/empty") }, []string{"etc/empty: it is missing"}},
		{"an empty one that is not", func(_ *Store, diff, _ string, _ *image.Image) error {
			return keepTime(diff+"/etc/empty", func() error { return write(diff+"/etc/empty", "x") })
		}, []string{"etc/empty: it has 1 bytes"}},
		{"a directory that is gone", func(_ *Store, diff, _ string, _ *image.Image) error { return os.RemoveAll(diff + "/usr") }, []string{"sbin/by-link: it is missing", "usr/sbin/su: it is missing"}},
		{"what is new", func(_ *Store, diff, _ string, _ *image.Image) error {
			must(t, os.MkdirAll(diff+"/etc/cron.d/x", 0o755))
			return write(diff+"/run/x", "x")
		}, []string{"etc/cron.d: the layer does not have it", "run/x: the layer does not"}},
		{"a hardlink", func(_ *Store, diff, _ string, _ *image.Image) error {
			must(t, os.Remove(diff+"/etc/passwd-"))
			must(t, write(diff+"/etc/passwd-", "root:x:0:0"))
			return nil
		}, []string{"etc/passwd-: it is no hardlink"}},
		{"a symlink", func(_ *Store, diff, _ string, _ *image.Image) error {
			must(t, os.Remove(diff+"/sbin"))
			return os.Symlink("usr/../usr/sbin", diff+"/sbin")
		}, []string{"sbin: it leads to"}},
		{"a device", func(_ *Store, diff, _ string, _ *image.Image) error {
			must(t, os.Remove(diff+"/dev/null"))
			must(t, unix.Mknod(diff+"/dev/null", unix.S_IFCHR, int(unix.Mkdev(1, 5))))
			return os.Chmod(diff+"/dev/null", 0o666)
		}, []string{"dev/null: it is the device 1:5, not 1:3"}},
		{"a type", func(_ *Store, diff, _ string, _ *image.Image) error {
			must(t, os.Remove(diff+"/run/pipe"))
			return os.Mkdir(diff+"/run/pipe", 0o600)
		}, []string{"run/pipe: it is of another type: a directory"}},
		{"a whiteout", func(_ *Store, diff, _ string, _ *image.Image) error { return os.Remove(diff + "/var/gone") }, []string{"var/gone: the whiteout is missing"}},
		{"an opaque directory", func(_ *Store, diff, _ string, _ *image.Image) error {
			return unix.Removexattr(diff+"/tmp", "trusted.overlay.opaque")
		}, []string{"tmp/.wh..wh..opq: its directory", "tmp/hidden-anyway: the whiteout"}},
		{"an attribute", func(_ *Store, diff, _ string, _ *image.Image) error {
			return unix.Setxattr(diff+"/etc/shadow", "user.x", []byte("z"), 0)
		}, []string{`etc/shadow: the extended attribute "user.x" is another`}},
		{"a time", func(_ *Store, diff, _ string, _ *image.Image) error {
			return os.Chtimes(diff+"/big", time.Now(), time.Now())
		}, []string{"big: its time"}},
		{"tar-split cut off", func(_ *Store, _, entry string, _ *image.Image) error {
			st, err := os.Stat(entry + "/tar-split.json.gz")
			must(t, err)
			return os.Truncate(entry+"/tar-split.json.gz", st.Size()/2)
		}, []string{"tar-split.json.gz: unexpected EOF"}},
		{"tar-split of another layer", func(s *Store, _, entry string, img *image.Image) error {
			other, err := os.ReadFile(s.path("image/overlay2/layerdb/sha256", img.Layers[0].ChainID.Encoded(), "tar-split.json.gz"))
			must(t, err)
			return os.WriteFile(entry+"/tar-split.json.gz", other, 0o644)
		}, []string{"base: it is missing", "big: the layer does not", "dev: the layer", "etc: the layer", "run: the", "sbin: the", "tmp: the", "usr: the", "var: the"}},
		{"a layer", func(_ *Store, _, entry string, _ *image.Image) error { return os.RemoveAll(entry) }, []string{"(of v:1): it is missing", "(of v:1): parent: the layer below is missing"}},
		{"the files of a layer", func(_ *Store, diff, _ string, _ *image.Image) error { return os.RemoveAll(diff) }, []string{"its files are gone", "parent: the layer below"}},
		{"lower", func(s *Store, diff, _ string, _ *image.Image) error { return write(filepath.Dir(diff)+"/lower", "l/X") }, []string{"lower: it does not name the layers below", "lower: it does not name"}},
		{"a link", func(s *Store, diff, _ string, _ *image.Image) error {
			return os.Remove(s.path("overlay2/l", read(t, filepath.Dir(diff), "link")))
		}, []string{"link: overlay2/l/"}},
		{"cache-id", func(_ *Store, _, entry string, _ *image.Image) error { return write(entry+"/cache-id", "") }, []string{"cache-id: there is none", "parent: the layer below"}},
		{"diff", func(_ *Store, _, entry string, img *image.Image) error {
			return write(entry+"/diff", img.Layers[0].DiffID.String())
		}, []string{"parent: this parent and the diffID", "tar-split.json.gz: with it the files make another tar"}},
		{"a config", func(s *Store, _, _ string, img *image.Image) error {
			return write(s.path("image/overlay2/imagedb/content/sha256", img.ID.Encoded()), "{}")
		}, []string{"config sha256:"}},
		{"a name of nothing", func(s *Store, _, _ string, img *image.Image) error {
			return os.Remove(s.path("image/overlay2/imagedb/content/sha256", img.ID.Encoded()))
		}, []string{"(of v:1): there is a name for it, and it is missing"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, img := verifyStore(t)
			l, err := s.Layer(img.Layers[1].ChainID)
			must(t, err)
			must(t, tc.damage(s, s.DiffDir(l), s.path("image/overlay2/layerdb/sha256", l.ChainID.Encoded()), img))
			v, err := s.Verify(t.Context(), VerifyOptions{})
			must(t, err)
			var said []string
			for _, d := range v.Damages {
				said = append(said, d.Error())
				if fault.KindOf(d) != fault.Corrupt {
					t.Errorf("%v has the kind %d", d, fault.KindOf(d))
				}
			}
			ok := len(said) == len(tc.want)
			for i := range min(len(said), len(tc.want)) {
				found := false
				for _, got := range said {
					found = found || strings.Contains(got, tc.want[i])
				}
				ok = ok && found
			}
			if !ok {
				t.Errorf("Verify says\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(tc.want, "\n"))
			}
			if len(tc.want) == 0 && (v.Images != 1 || v.Layers != 3 || len(v.Good) != 3 || v.Bytes < 600_000) {
				t.Errorf("Verify: %+v", v)
			}
		})
	}
}

// TestVerifyMeanwhile removes an image while it is verified.
func TestVerifyMeanwhile(t *testing.T) {
	s, _ := verifyStore(t)
	dir := s.dir
	s.Close() // it needs the layers no more
	r, err := OpenReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	s = openTest(t, dir)
	removed := false
	v, err := r.Verify(t.Context(), VerifyOptions{Cores: 1, Expect: func(int64) {
		_, err := s.Remove(t.Context(), "v:1", RemoveOptions{})
		removed = err == nil
	}})
	if err != nil || !removed || len(v.Damages) != 0 {
		t.Errorf("removed %v: %+v %v", removed, v, err)
	}
}

// TestVerifyFewFiles: what the process lacks is no damage.
func TestVerifyFewFiles(t *testing.T) {
	s, _ := verifyStore(t)
	lacked := 0
	for n := range 40 {
		restore := testkit.FewFiles(t, n)
		v, err := s.Verify(t.Context(), VerifyOptions{Cores: 1})
		restore()
		switch {
		case fault.Exhausted(err):
			if lacked++; fault.KindOf(err) != fault.Failed || !strings.HasPrefix(err.Error(), "verify the store") {
				t.Errorf("%d files: %v", n, err)
			}
		case err != nil || len(v.Damages) > 0 || len(v.Good) != 3:
			t.Errorf("%d files: %+v, %v", n, v, err)
		}
	}
	if lacked < 4 || lacked > 30 {
		t.Errorf("of 40 numbers of files %d are too few", lacked)
	}
}
