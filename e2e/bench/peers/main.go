// Command peers extracts a plain tar with the library of another project, so
// that the benchmark can hold fastpull's extraction against it:
//
//	peers -with containerd|go-archive|umoci -tar FILE -to DIR
//
// Each library is called as the program that it comes from calls it for a layer
// on overlayfs, as root. It is a module of its own: what they depend on is not
// what fastpull depends on.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/v2/pkg/archive"
	mobyarchive "github.com/moby/go-archive"
	"github.com/opencontainers/umoci/oci/layer"
)

// libraries extract a layer's tar into the directory dir.
var libraries = map[string]func(ctx context.Context, dir string, r io.Reader) error{
	// As core/diff/apply does it for the overlayfs snapshotter.
	"containerd": func(ctx context.Context, dir string, r io.Reader) error {
		_, err := archive.Apply(ctx, dir, r, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout))
		return err
	},
	// As dockerd's driver overlay2 does it, but for the chroot around it, which
	// is the daemon's business and costs a new thread.
	"go-archive": func(_ context.Context, dir string, r io.Reader) error {
		return mobyarchive.UntarUncompressed(r, dir, &mobyarchive.TarOptions{WhiteoutFormat: mobyarchive.OverlayWhiteoutFormat})
	},
	"umoci": func(_ context.Context, dir string, r io.Reader) error {
		return layer.UnpackLayer(dir, r, &layer.UnpackOptions{OnDiskFormat: layer.OverlayfsRootfs{}})
	},
}

func main() {
	with := flag.String("with", "", "extract with this `library`: containerd, go-archive or umoci")
	file := flag.String("tar", "", "extract this `FILE`")
	dir := flag.String("to", "", "extract into `DIR`, which is there and empty")
	flag.Parse()
	extract, ok := libraries[*with]
	if !ok || *file == "" || *dir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(context.Background(), extract, *file, *dir); err != nil {
		fmt.Fprintf(os.Stderr, "peers: extract %s with %s: %v\n", *file, *with, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, extract func(context.Context, string, io.Reader) error, file, dir string) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Without a buffer each header would be a read of 512 bytes. The programs
	// have one between the decompressor and the library, too.
	r := bufio.NewReaderSize(f, 256<<10)
	if err := extract(ctx, dir, r); err != nil {
		return err
	}
	// What is behind the end of the archive belongs to the layer.
	_, err = io.Copy(io.Discard, r)
	return err
}
