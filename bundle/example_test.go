package bundle_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/bundle"
	"github.com/fastpull/fastpull/image"
)

// A bundle of one image, as docker load takes it, is written and read again. A layer here
// is any text; that of a real image is a tar.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "images.tar")
	if err := write(name); err != nil {
		log.Fatal(err)
	}

	r, err := bundle.Open(context.Background(), name, bundle.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for _, e := range r.Entries() {
		fmt.Println(e.Reference())
	}
	for _, l := range r.Layers() {
		blob, err := r.Blob(l.Blob.Digest)
		if err != nil {
			log.Fatal(err)
		}
		data, err := io.ReadAll(blob)
		fmt.Println(string(data), err)
	}
	// Output:
	// host:5000/img:1.2
	// the plain tar of a layer <nil>
}

// write writes an image of one layer to a file. The file gets its name at the end.
func write(name string) error {
	layer := []byte("the plain tar of a layer")
	diffID := digest.FromBytes(layer)
	img, err := image.Parse(fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%q]}}`, diffID))
	if err != nil {
		return err
	}
	f, err := bundle.Create(name, bundle.FileOptions{})
	if err != nil {
		return err
	}
	defer f.Close()
	w := bundle.NewWriter(f)
	for _, data := range [][]byte{layer, img.Config} {
		if err := w.Blob(digest.FromBytes(data), int64(len(data)), bytes.NewReader(data)); err != nil {
			return err
		}
	}
	w.Docker(img, []string{"host:5000/img:1.2"}, []digest.Digest{diffID})
	if err := w.Close(); err != nil {
		return err
	}
	if err := f.Finish(); err != nil {
		return err
	}
	return f.Publish(context.Background(), nil)
}
