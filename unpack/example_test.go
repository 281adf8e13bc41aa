package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/unpack"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

// layer returns a tar with one file.
func layer(name, content string) *bytes.Buffer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	_, _ = w.Write([]byte(content))
	_ = w.Close()
	return &b
}

// A plain tar becomes files below a directory. Deletions take the form of overlayfs here.
func ExampleExtract() {
	root, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	stats, err := unpack.Extract(context.Background(), layer("etc/motd", "hello"), root, unpack.ExtractOptions{
		Whiteouts: whiteout.Overlay{User: true},
		Rootless:  true, // leave out what the kernel refuses to a plain user
	})
	if err != nil {
		log.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "etc/motd"))
	fmt.Println(stats.Entries, stats.Size, string(data), err)
	// Output: 1 5 hello <nil>
}

// A layer that breaks a rule is refused, by an error that names the entry.
func ExampleExtract_hostile() {
	root, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	_, err = unpack.Extract(context.Background(), layer("../../etc/passwd", "root::0:0"), root, unpack.ExtractOptions{
		Whiteouts: whiteout.Overlay{User: true},
		Rootless:  true,
	})
	fmt.Println(err)
	fmt.Println(fault.KindOf(err) == fault.Corrupt)
	// Output:
	// entry "../../etc/passwd": the name leads out of the layer
	// true
}
