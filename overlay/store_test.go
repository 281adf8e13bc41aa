package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

var background = context.Background()

// TestFresh compares a new store with what dockerd makes, whatever the umask.
func TestFresh(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "deeper/store")
	s := openTest(t, dir)
	modes := make(map[string]string)
	for _, line := range tree(t, dir) {
		mode, path, _ := strings.Cut(line, " ")
		modes[path] = mode
	}
	for path, want := range map[string]string{
		".":                                      "drwx--x---",
		"overlay2":                               "drwx--x---",
		"overlay2/l":                             "drwx------",
		"image":                                  "drwx------",
		"image/overlay2":                         "drwx------",
		"image/overlay2/layerdb/sha256":          "drwxr-xr-x",
		"image/overlay2/imagedb/content/sha256":  "drwx------",
		"image/overlay2/imagedb/metadata/sha256": "drwx------",
		"image/overlay2/distribution/diffid-by-digest":            "drwxr-xr-x",
		"image/overlay2/distribution/v2metadata-by-diffid/sha256": "drwxr-xr-x",
		"fastpull":     "drwx------",
		"fastpull/run": "drwx------",
	} {
		if modes[path] != want {
			t.Errorf("%s has mode %q, want %q", path, modes[path], want)
		}
	}
	openTest(t, dir) // a store that is there is fine, and stays while it is open
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, s.path("fastpull/run")); len(got) != 2 {
		t.Errorf("Close left %q", got)
	}
}

// TestLayer compares a base layer and one on it with store-format.md, file by
// file: modes, contents, and no newline anywhere.
func TestLayer(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	s := openTest(t, t.TempDir())
	base, top := tarOf("a", "base"), tarOf("b", "top!!")
	baseChain, err := put(s, "", base)
	if err != nil {
		t.Fatal(err)
	}
	topChain, err := put(s, baseChain, top)
	if err != nil {
		t.Fatal(err)
	}
	baseDiff, topDiff := digest.FromBytes(base), digest.FromBytes(top)
	if want := digest.FromString(baseDiff.String() + " " + topDiff.String()); topChain != want {
		t.Fatalf("chainID %s, want %s", topChain, want)
	}
	cacheID := regexp.MustCompile(`^[0-9a-f]{64}$`)
	shortID := regexp.MustCompile(`^[A-Z2-7]{26}$`)
	var short string
	for _, tc := range []struct {
		chain, parent, diffID digest.Digest
		size                  string
		files, entry          []string
	}{
		{baseChain, "", baseDiff, "4",
			[]string{"-rw------- committed", "-rw-r--r-- diff/a", "-rw-r--r-- link", "drwx--x--- .", "drwxr-xr-x diff"},
			[]string{"-rw-r--r-- cache-id", "-rw-r--r-- diff", "-rw-r--r-- size", "-rw-r--r-- tar-split.json.gz", "drwx------ ."}},
		{topChain, baseChain, topDiff, "5",
			[]string{"-rw-r--r-- diff/b", "-rw-r--r-- link", "-rw-r--r-- lower", "drwx------ work", "drwx--x--- .", "drwxr-xr-x diff"},
			[]string{"-rw-r--r-- cache-id", "-rw-r--r-- diff", "-rw-r--r-- parent", "-rw-r--r-- size", "-rw-r--r-- tar-split.json.gz", "drwx------ ."}},
	} {
		l, err := s.Layer(tc.chain)
		if err != nil {
			t.Fatal(err)
		}
		if l.DiffID != tc.diffID || l.Parent != tc.parent || fmt.Sprint(l.Size) != tc.size || !cacheID.MatchString(l.CacheID) {
			t.Errorf("layer: %+v", l)
		}
		entry := s.path("image/overlay2/layerdb/sha256", tc.chain.Encoded())
		if got := tree(t, entry); fmt.Sprint(got) != fmt.Sprint(tc.entry) {
			t.Errorf("layerdb entry:\n%q, want\n%q", got, tc.entry)
		}
		files := s.path("overlay2", l.CacheID)
		if got := tree(t, files); fmt.Sprint(got) != fmt.Sprint(tc.files) {
			t.Errorf("overlay2 folder:\n%q, want\n%q", got, tc.files)
		}
		for name, want := range map[string]string{"cache-id": l.CacheID, "diff": tc.diffID.String(), "size": tc.size} {
			if got := read(t, entry, name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		link := read(t, files, "link")
		if to, err := os.Readlink(s.path("overlay2/l", link)); err != nil || to != "../"+l.CacheID+"/diff" || !shortID.MatchString(link) {
			t.Errorf("l/%s leads to %q, %v", link, to, err)
		}
		if tc.parent != "" {
			if got := read(t, entry, "parent"); got != tc.parent.String() {
				t.Errorf("parent is %q", got)
			}
			if got := read(t, files, "lower"); got != "l/"+short {
				t.Errorf("lower is %q, want l/%s", got, short)
			}
		} else if got := read(t, files, "committed"); got != "" {
			t.Errorf("committed holds %q", got)
		}
		short = link
	}
}

// TestLower has three layers: the nearest parent comes first.
func TestLower(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 3)
	var links []string
	var lower string
	for _, l := range s.Chain(img.Layers) {
		links = append([]string{"l/" + read(t, s.path("overlay2", l.CacheID, "link"))}, links...)
		if l.Parent != "" {
			lower = read(t, s.path("overlay2", l.CacheID, "lower"))
		}
	}
	if want := strings.Join(links[1:], ":"); lower != want || len(links) != 3 {
		t.Errorf("lower of the third layer is %q, want %q", lower, want)
	}
}

func TestOpenReader(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := OpenReader(dir)
	if fault.KindOf(err) != fault.NotFound || fault.HintOf(err) == "" || !strings.Contains(err.Error(), dir) {
		t.Errorf("no store: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("looking for a store made one")
	}
	openTest(t, dir)
	if r, err := OpenReader(dir); err != nil || r.Dir() != dir {
		t.Errorf("a store: %v", err)
	}
}

// A file where a directory should be is told by its name, once.
func TestOpenFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{file, filepath.Join(file, "below")} {
		if _, err := Open(t.Context(), store, Options{NoSync: true}); err == nil || !strings.HasPrefix(err.Error(), "open the store") || strings.Count(err.Error(), store) != 1 {
			t.Errorf("Open(%s): %v", store, err)
		}
	}
}
