// Command untar extracts a plain tar as fastpull extracts a layer into its
// store, for the benchmark:
//
//	untar -tar FILE -digest sha256:… -to DIR -split FILE
//
// Deletions are written for overlayfs, tar-split goes gzipped into a file, and
// the bytes are hashed on the way. It prints the diffID, which is the digest
// after it was found to be right, the number of entries and the bytes of the
// files.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/decode"
	"github.com/fastpull/fastpull/unpack"
	"github.com/fastpull/fastpull/unpack/whiteout"
)

func main() {
	file := flag.String("tar", "", "extract this `FILE`")
	sum := flag.String("digest", "", "its `DIGEST`")
	dir := flag.String("to", "", "extract into `DIR`, which is there and empty")
	split := flag.String("split", "", "write tar-split to `FILE`, gzipped")
	flag.Parse()
	if *file == "" || *sum == "" || *dir == "" || *split == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	// An interrupt ends the process at once: all that it has made goes with the
	// disk of the turn.
	if err := run(context.Background(), *file, digest.Digest(*sum), *dir, *split); err != nil {
		fmt.Fprintf(os.Stderr, "untar: extract %s: %v\n", *file, err)
		os.Exit(1)
	}
}

// run has tar-split compressed like package overlay does it.
func run(ctx context.Context, file string, id digest.Digest, dir, split string) (err error) {
	if err := id.Validate(); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	out, err := os.OpenFile(split, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf := bufio.NewWriterSize(out, 64<<10)
	zip, err := gzip.NewWriterLevel(buf, gzip.BestSpeed)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	in := decode.NewReader(ctx, f, decode.Expect{Digest: id, Size: st.Size(), DiffID: id}, decode.ReaderOptions{})
	defer in.Close()
	stats, err := unpack.Extract(ctx, in, dir, unpack.ExtractOptions{Whiteouts: whiteout.Overlay{}, TarSplit: zip})
	if err := errors.Join(err, zip.Close(), buf.Flush()); err != nil {
		return err
	}
	_, err = fmt.Println(id, stats.Entries, stats.Size)
	return err
}
