//go:build e2e

package kit

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// DataRoot is a folder in Docker's overlay2 format, which no daemon uses at
// the moment, described so that two of them can be compared: the random names
// in it are replaced by the chain IDs of the layers that they stand for.
type DataRoot struct {
	dir    string
	Caches map[string]string // chain ID (hex) to cache-id
	Nodes  map[string]Node
}

func (d *DataRoot) path(elem ...string) string {
	return filepath.Join(append([]string{d.dir}, elem...)...)
}

// Diff is the folder of a layer's files.
func (d *DataRoot) Diff(chain string) string { return d.path("overlay2", d.Caches[chain], "diff") }

// ReadDataRoot reads one. Files that cannot be read, and names that lead
// nowhere, become nodes that differ from those of a sound root.
func ReadDataRoot(t *testing.T, dir string) *DataRoot {
	t.Helper()
	d := &DataRoot{dir: dir, Caches: map[string]string{}, Nodes: map[string]Node{}}
	for _, chain := range Names(t, d.path("image/overlay2/layerdb/sha256")) {
		d.Caches[chain] = d.Text(t, "image/overlay2/layerdb/sha256", chain, "cache-id")
		d.add(t, "image/overlay2/layerdb/sha256/"+chain, d.path("image/overlay2/layerdb/sha256", chain))
	}
	for _, name := range []string{".", "overlay2", "overlay2/l"} {
		d.add(t, name, d.path(name))
	}
	d.readImage(t)
	d.readOverlay(t)
	return d
}

// readImage takes in the files below image/overlay2. Its folders, of which
// Docker makes some that stay empty, do not count.
func (d *DataRoot) readImage(t *testing.T) {
	t.Helper()
	base := d.path("image/overlay2")
	err := filepath.WalkDir(base, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == base {
			return nil // a store in which nothing was put yet
		}
		if err != nil || entry.IsDir() {
			return err
		}
		key, err := filepath.Rel(d.dir, path)
		if err != nil {
			return err
		}
		n := d.add(t, key, path)
		switch filepath.Base(path) {
		case "cache-id":
			n["content"], n["size"] = "a cache-id", ""
		case "tar-split.json.gz":
			n["content"], n["size"] = tarSplitHash(path), ""
		case "repositories.json":
			n["content"], n["size"] = CanonicalJSON(path), ""
		default:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			n["content"] = string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// readOverlay takes in the layers' folders, but for what is in their diff.
func (d *DataRoot) readOverlay(t *testing.T) {
	t.Helper()
	chains, links := map[string]string{}, map[string]string{}
	for chain, cache := range d.Caches {
		chains[cache] = chain
		links[d.Text(t, "overlay2", cache, "link")] = chain
	}
	for _, cache := range Names(t, d.path("overlay2")) {
		chain, known := chains[cache]
		if !known {
			if cache != "l" {
				d.Nodes["overlay2/"+cache] = Node{"type": "a layer that no image knows"}
			}
			continue
		}
		key := "overlay2/" + chain
		d.add(t, key, d.path("overlay2", cache))
		for _, name := range Names(t, d.path("overlay2", cache)) {
			n := d.add(t, key+"/"+name, d.path("overlay2", cache, name))
			switch name {
			case "link":
				target, err := os.Readlink(d.path("overlay2/l", d.Text(t, "overlay2", cache, name)))
				n["content"] = "leads elsewhere: " + target
				if err == nil && target == "../"+cache+"/diff" {
					n["content"] = "leads to the layer"
				}
			case "lower":
				var lowers []string
				for short := range strings.SplitSeq(d.Text(t, "overlay2", cache, name), ":") {
					lowers = append(lowers, "l/"+links[strings.TrimPrefix(short, "l/")])
				}
				n["content"] = strings.Join(lowers, ":")
			}
		}
	}
	for _, short := range Names(t, d.path("overlay2/l")) {
		if links[short] == "" {
			d.Nodes["overlay2/l/"+short] = Node{"type": "a short name that no layer has"}
		}
	}
}

// add describes a file under key, without its time.
func (d *DataRoot) add(t *testing.T, key, path string) Node {
	t.Helper()
	n, _, err := readNode(path, TreeOptions{NoTimes: true})
	if err != nil {
		n = Node{"type": err.Error()}
	}
	d.Nodes[key] = n
	return n
}

func (d *DataRoot) Text(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(d.path(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// CompareDataRoots gives the differences between two roots, the files of all
// their layers included.
func CompareDataRoots(t *testing.T, got, want *DataRoot, o TreeOptions) []string {
	t.Helper()
	diffs := CompareNodes(got.Nodes, want.Nodes)
	for chain := range want.Caches {
		if _, both := got.Caches[chain]; !both {
			continue // the layerdb's nodes tell
		}
		for _, d := range CompareTrees(t, got.Diff(chain), want.Diff(chain), o) {
			diffs = append(diffs, "layer "+chain[:12]+": "+d)
		}
	}
	slices.Sort(diffs)
	return diffs
}

// tarSplitHash describes what a tar-split file says: the headers and padding in
// their order, and the files between them. Where dockerd cuts the padding into
// entries, some of them empty, depends on how the bytes came in; one image
// pulled twice differs in that.
func tarSplitHash(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err.Error()
	}
	const segment = 2
	type entry struct {
		Type    int    `json:"type"`
		Name    string `json:"name"`
		NameRaw []byte `json:"name_raw"`
		Size    int64  `json:"size"`
		Payload []byte `json:"payload"`
	}
	sum, entries, padding := sha256.New(), 0, false
	for d := json.NewDecoder(bufio.NewReaderSize(z, 1<<20)); ; {
		var e entry
		if err := d.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err.Error()
		}
		// What stands before the payload says where it ends only for files:
		// segments in a row are one.
		if e.Type != segment || !padding {
			entries++
			fmt.Fprintf(sum, "\n%d %q %x %d ", e.Type, e.Name, e.NameRaw, e.Size)
		}
		padding = e.Type == segment
		fmt.Fprintf(sum, "%x", e.Payload)
	}
	return fmt.Sprintf("%d entries, sha256:%x", entries, sum.Sum(nil))
}

func CanonicalJSON(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return err.Error()
	}
	text, _ = json.Marshal(v)
	return string(text)
}

// OwnFiles are the names that fastpull leaves for good in its own folder of a
// store. The folders there stay too, but empty.
var OwnFiles = []string{"lock", "opaque"}

// ExpectClean fails the test if a run has left anything in fastpull's own
// folder of the store, or something is mounted there. Blobs that were not whole
// when it failed may be kept.
func ExpectClean(t *testing.T, store string, unfinished ...v1.Hash) {
	t.Helper()
	ExpectOwnClean(t, store, unfinished...)
	if mounts := MountsBelow(t, store); len(mounts) > 0 {
		t.Errorf("left mounted: %q", mounts)
	}
}

// ExpectOwnClean is ExpectClean for a store in which something is mounted.
func ExpectOwnClean(t *testing.T, store string, unfinished ...v1.Hash) {
	t.Helper()
	own := filepath.Join(store, "fastpull")
	err := filepath.WalkDir(own, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path == own {
			return nil
		}
		kept := slices.ContainsFunc(unfinished, func(h v1.Hash) bool { return strings.HasPrefix(entry.Name(), h.String()) })
		if err == nil && !entry.IsDir() && !slices.Contains(OwnFiles, entry.Name()) && !kept {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
