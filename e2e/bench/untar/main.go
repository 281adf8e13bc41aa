// Command untar extracts a plain tar as fastpull extracts a layer into its
// store, for the benchmark:
//
//	untar -tar FILE -to DIR -split FILE
//
// Deletions are written for overlayfs, tar-split goes gzipped into a file, and
// the diffID is computed on the way, in a goroutine of its own. It prints the
// diffID, the number of entries and the bytes of the files.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/unpack"
)

func main() {
	file := flag.String("tar", "", "extract this `FILE`")
	dir := flag.String("to", "", "extract into `DIR`, which is there and empty")
	split := flag.String("split", "", "write tar-split to `FILE`, gzipped")
	flag.Parse()
	if *file == "" || *dir == "" || *split == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	// An interrupt ends the process at once: all that it has made goes with the
	// disk of the turn.
	if err := run(context.Background(), *file, *dir, *split); err != nil {
		fmt.Fprintf(os.Stderr, "untar: extract %s: %v\n", *file, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file, dir, split string) error {
	var diffID string
	var stats unpack.Stats
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		diffID, err = digest(ctx, file)
		return err
	})
	g.Go(func() (err error) {
		stats, err = extract(ctx, file, dir, split)
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	_, err := fmt.Println(diffID, stats.Entries, stats.Size)
	return err
}

// stream is what a layer is: bytes that come, and nothing else. A file could be
// sought in, or copied from by the kernel.
type stream struct {
	ctx context.Context
	r   io.Reader
}

func (s stream) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.r.Read(p)
}

// digest hashes the tar. A pull hashes each chunk of it that it extracts; here
// the file is read a second time, which costs a little more and not less.
func digest(ctx context.Context, file string) (id string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, stream{ctx, f}, make([]byte, 256<<10)); err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil)), nil
}

// extract has tar-split compressed like package overlay does it.
func extract(ctx context.Context, file, dir, split string) (stats unpack.Stats, err error) {
	f, err := os.Open(file)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out, err := os.OpenFile(split, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return stats, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf := bufio.NewWriterSize(out, 64<<10)
	zip, err := gzip.NewWriterLevel(buf, gzip.BestSpeed)
	if err != nil {
		return stats, err
	}
	// The chunks that unpack.Reader gives are of this size too.
	in := bufio.NewReaderSize(stream{ctx, f}, 256<<10)
	stats, err = unpack.Extract(ctx, in, dir, unpack.ExtractOptions{Whiteouts: unpack.Overlay{}, TarSplit: zip})
	return stats, errors.Join(err, zip.Close(), buf.Flush())
}
