//go:build e2e

package kit

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	lowerChain = "aaaa000000000000"
	upperChain = "bbbb000000000000"
)

// plantDataRoot makes a root of two layers, whose random names are others each
// time. Of image/ it has only what the comparison looks into.
func plantDataRoot(t *testing.T) *DataRoot {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o710); err != nil {
		t.Fatal(err)
	}
	shorts := map[string]string{}
	for _, chain := range []string{lowerChain, upperChain} {
		cache, short := "cache"+rand.Text(), rand.Text()
		shorts[chain] = short
		layer := filepath.Join(root, "overlay2", cache)
		WriteFile(t, filepath.Join(layer, "diff/file"), chain)
		WriteFile(t, filepath.Join(layer, "link"), short)
		if chain == upperChain {
			WriteFile(t, filepath.Join(layer, "lower"), "l/"+shorts[lowerChain])
		} else {
			WriteFile(t, filepath.Join(layer, "committed"), "")
		}
		if err := os.MkdirAll(filepath.Join(root, "overlay2/l"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../"+cache+"/diff", filepath.Join(root, "overlay2/l", short)); err != nil {
			t.Fatal(err)
		}
		db := filepath.Join(root, "image/overlay2/layerdb/sha256", chain)
		WriteFile(t, filepath.Join(db, "cache-id"), cache)
		WriteFile(t, filepath.Join(db, "size"), "16")
		writeTarSplit(t, filepath.Join(db, "tar-split.json.gz"), `{"type":2,"payload":"AAAA","position":0}`, `{"type":1,"name":"file","size":16,"payload":"","position":1}`)
	}
	WriteFile(t, filepath.Join(root, "image/overlay2/repositories.json"), `{"Repositories": {"a":{}, "b":{}}}`)
	return ReadDataRoot(t, root)
}

func writeTarSplit(t *testing.T, path string, lines ...string) {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	z.Write([]byte(strings.Join(lines, "\n")))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	WriteFile(t, path, buf.String())
}

func TestDataRootSeesEveryDifference(t *testing.T) {
	want := plantDataRoot(t)
	compare := func(t *testing.T, got *DataRoot) []string {
		t.Helper()
		return CompareDataRoots(t, ReadDataRoot(t, got.dir), want, TreeOptions{NoTimes: true})
	}
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, d *DataRoot, layer string)
		want   string // what a difference begins with; "" for none
	}{
		{"nothing", func(*testing.T, *DataRoot, string) {}, ""},
		{"JSON written another way", func(t *testing.T, d *DataRoot, _ string) {
			WriteFile(t, d.path("image/overlay2/repositories.json"), `{"Repositories":{"b":{},"a":{}}}`)
		}, ""},
		{"padding cut another way", func(t *testing.T, d *DataRoot, _ string) {
			writeTarSplit(t, d.path("image/overlay2/layerdb/sha256", upperChain, "tar-split.json.gz"),
				`{"type":2,"payload":"AA==","position":0}`, `{"type":2,"payload":"AAA=","position":1}`,
				`{"type":1,"name":"file","size":16,"payload":"","position":2}`)
		}, ""},
		{"another tar-split", func(t *testing.T, d *DataRoot, _ string) {
			writeTarSplit(t, d.path("image/overlay2/layerdb/sha256", upperChain, "tar-split.json.gz"), `{"type":2,"payload":"AAAA","position":0}`)
		}, `"image/overlay2/layerdb/sha256/` + upperChain + `/tar-split.json.gz": content`},
		{"a tag more", func(t *testing.T, d *DataRoot, _ string) {
			WriteFile(t, d.path("image/overlay2/repositories.json"), `{"Repositories":{"a":{},"b":{},"c":{}}}`)
		}, `"image/overlay2/repositories.json": content`},
		{"size", func(t *testing.T, d *DataRoot, _ string) {
			WriteFile(t, d.path("image/overlay2/layerdb/sha256", upperChain, "size"), "17")
		}, `"image/overlay2/layerdb/sha256/` + upperChain + `/size": content`},
		{"a newline", func(t *testing.T, d *DataRoot, _ string) {
			WriteFile(t, d.path("image/overlay2/layerdb/sha256", upperChain, "size"), "16\n")
		}, `"image/overlay2/layerdb/sha256/` + upperChain + `/size": content`},
		{"mode of a layer", func(t *testing.T, d *DataRoot, layer string) {
			if err := os.Chmod(layer, 0o700); err != nil {
				t.Fatal(err)
			}
		}, `"overlay2/` + upperChain + `": mode is "0700"`},
		{"lower", func(t *testing.T, d *DataRoot, layer string) { WriteFile(t, filepath.Join(layer, "lower"), "l/NOSUCH") },
			`"overlay2/` + upperChain + `/lower": content`},
		{"link to nothing", func(t *testing.T, d *DataRoot, layer string) { WriteFile(t, filepath.Join(layer, "link"), "NOSUCH") },
			`"overlay2/` + upperChain + `/link": content is "leads elsewhere: `},
		{"a short name too many", func(t *testing.T, d *DataRoot, _ string) { WriteFile(t, d.path("overlay2/l/STRAY"), "") },
			`"overlay2/l/STRAY" should not be there`},
		{"a layer too many", func(t *testing.T, d *DataRoot, _ string) { WriteFile(t, d.path("overlay2/stray/link"), "") },
			`"overlay2/stray" should not be there`},
		{"a file too many", func(t *testing.T, d *DataRoot, layer string) { WriteFile(t, filepath.Join(layer, "committed"), "") },
			`"overlay2/` + upperChain + `/committed" should not be there`},
		{"a layer's content", func(t *testing.T, d *DataRoot, layer string) {
			WriteFile(t, filepath.Join(layer, "diff/file"), "other")
		},
			`layer ` + upperChain[:12] + `: "file": content`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := plantDataRoot(t)
			tc.change(t, got, got.path("overlay2", got.Caches[upperChain]))
			diffs := compare(t, got)
			if tc.want == "" && len(diffs) > 0 {
				t.Errorf("differences out of nothing: %q", diffs)
			}
			if !slices.ContainsFunc(diffs, func(d string) bool { return strings.HasPrefix(d, tc.want) }) && tc.want != "" {
				t.Errorf("no difference begins with %s, only %q", tc.want, diffs)
			}
		})
	}
}
