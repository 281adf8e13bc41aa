package unpack

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"github.com/fastpull/fastpull/unpack/whiteout"
)

// benchShapes are the layers that BenchmarkExtract extracts.
var benchShapes = []struct {
	name    string
	entries func() []entry
}{
	{"small", func() []entry { return files(100, 50, 3000) }},
	{"big", func() []entry { return files(1, 4, 16<<20) }},
	{"empty", func() []entry { return files(20, 500, 0) }},
	{"deep", func() (list []entry) {
		for branch := range 50 {
			name := fmt.Sprint(branch)
			for level := range 20 {
				list = append(list, folder(name), file(name+"/a", "x"), symlink(name+"/b", "a"))
				name = fmt.Sprintf("%s/level%d", name, level)
			}
		}
		return list
	}},
}

// files are directories with as many files each, of one size.
func files(dirs, each, size int) (list []entry) {
	data := strings.Repeat("0123456789abcdef", size/16)
	for d := range dirs {
		list = append(list, folder(fmt.Sprintf("dir%d", d)))
		for f := range each {
			list = append(list, file(fmt.Sprintf("dir%d/file%d", d, f), data))
		}
	}
	return list
}

// BenchmarkExtract extracts into a new directory each time. What deletes it is
// not timed, nor is what the kernel writes to the disk later. With tar-split it
// is compressed as package overlay does, to nowhere. TMPDIR says on which file
// system; /dev/shm leaves the disk out.
func BenchmarkExtract(b *testing.B) {
	for _, shape := range benchShapes {
		entries := shape.entries()
		raw := makeTar(b, entries...)
		for _, split := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/split=%t", shape.name, split), func(b *testing.B) {
				benchExtract(b, raw, len(entries), split)
			})
		}
	}
}

func benchExtract(b *testing.B, raw []byte, entries int, split bool) {
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	root := filepath.Join(b.TempDir(), "root")
	for b.Loop() {
		b.StopTimer()
		if err := os.RemoveAll(root); err != nil {
			b.Fatal(err)
		}
		if err := os.Mkdir(root, 0o755); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()

		o := ExtractOptions{Whiteouts: whiteout.Overlay{}}
		var zip *gzip.Writer
		if split {
			zip, _ = gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // the level is a good one
			o.TarSplit = zip
		}
		stats, err := Extract(b.Context(), bytes.NewReader(raw), root, o)
		if err != nil {
			b.Fatal(err)
		}
		if split {
			if err := zip.Close(); err != nil {
				b.Fatal(err)
			}
		}
		if stats.Entries != entries {
			b.Fatalf("%d entries were extracted of %d", stats.Entries, entries)
		}
	}
	b.ReportMetric(float64(entries)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
