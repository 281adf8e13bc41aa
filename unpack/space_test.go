package unpack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// limited mounts a new tmpfs.
func limited(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

func TestNoSpace(t *testing.T) {
	many := func(n int) (list []entry) {
		for i := range n {
			list = append(list, folder(fmt.Sprint("d", i)), symlink(fmt.Sprint("s", i), "x"))
		}
		return list
	}
	for _, tc := range []struct {
		name, options string
		entries       []entry
		say           []string
	}{
		{"a file that is larger than what is free", "size=1m", []entry{file("ok", "1"), file("big", string(testkit.Content(2<<20)))},
			[]string{`entry "big"`, "it has 2097152 bytes", "are free", "df shows"}},
		{"files that are larger together", "size=1m", []entry{file("a", string(testkit.Content(600<<10))), file("b", string(testkit.Content(600<<10)))},
			[]string{`entry "b"`, "it has 614400 bytes", "df shows"}},
		{"no inodes", "size=1m,nr_inodes=20", many(20), []string{`entry "`, "needs an inode", "df -i"}},
		{"a sparse file that claims more than there is", "size=1m", nil, []string{"a sparse file of 4611686018427387904 bytes"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mount := limited(t, tc.options)
			raw := makeTar(t, tc.entries...)
			if tc.entries == nil {
				raw = slices.Concat(oldSparse("s", 1<<62), trailer)
			}
			fds := openFiles(t)
			for _, split := range []io.Writer{nil, io.Discard} {
				root := filepath.Join(mount, "root")
				if err := os.Mkdir(root, 0o755); err != nil {
					t.Fatal(err)
				}
				_, err := Extract(t.Context(), bytes.NewReader(raw), root, ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: split})
				for _, say := range tc.say {
					if text := fmt.Sprint(err, " ", fault.HintOf(err)); !strings.Contains(text, say) {
						t.Errorf("%s\ndoes not say %q", text, say)
					}
				}
				if err := os.RemoveAll(root); err != nil {
					t.Fatal(err)
				}
			}
			if n := openFiles(t); n != fds {
				t.Errorf("%d descriptors are left open", n-fds)
			}
		})
	}
}

// Another program fills the disk between the look at it and the write.
func TestFilledMeanwhile(t *testing.T) {
	for name, tc := range map[string]struct {
		options string
		fill    func(dir string) error
		say     string
	}{
		"bytes": {"size=4m", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "other"), testkit.Content(3800<<10), 0o600)
		}, "df shows"},
		"inodes": {"size=4m,nr_inodes=40", func(dir string) error {
			for i := 0; ; i++ {
				if err := os.Mkdir(filepath.Join(dir, fmt.Sprint("other", i)), 0o700); err != nil {
					return nil //nolint:nilerr // full, as it should be
				}
			}
		}, "no inodes left"},
	} {
		t.Run(name, func(t *testing.T) {
			mount := limited(t, tc.options)
			root := filepath.Join(mount, "root")
			if err := os.Mkdir(root, 0o755); err != nil {
				t.Fatal(err)
			}
			raw := makeTar(t, file("first", string(testkit.Content(512))), file("second", string(testkit.Content(1<<20))), file("third", string(testkit.Content(100))), folder("fourth"))
			half := bytes.Index(raw, []byte("second"))
			in := io.MultiReader(bytes.NewReader(raw[:half+2048]), doing(func() error { return tc.fill(mount) }), bytes.NewReader(raw[half+2048:]))
			_, err := Extract(t.Context(), in, root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
			if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), `entry "`) {
				t.Errorf("%v", err)
			}
			if text := fmt.Sprint(err, " ", fault.HintOf(err)); !strings.Contains(text, tc.say) {
				t.Errorf("%s\ndoes not say %q", text, tc.say)
			}
		})
	}
}

// doing is an empty reader that does something.
type doing func() error

func (f doing) Read([]byte) (int, error) {
	if err := f(); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

func TestReadOnly(t *testing.T) {
	mount := limited(t, "size=1m")
	root := filepath.Join(mount, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", mount, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := extractRaw(t, makeTar(t, file("f", "1")), root, ExtractOptions{Whiteouts: whiteout.Overlay{}})
	if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), `entry "f": create the file`) || !strings.Contains(fault.Advice(err), "read-only") {
		t.Errorf("%v (%s)", err, fault.Advice(err))
	}
}
