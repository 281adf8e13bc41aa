// Command gunzip decodes a gzip file to standard output with a library, for the
// benchmark:
//
//	gunzip -with inflate FILE
package main

import (
	stdlib "compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	klauspost "github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"

	"github.com/fastpull/fastpull/inflate"
)

// libraries are the readers by name. All read what they want to of the file
// themselves.
var libraries = map[string]func(io.Reader) (io.ReadCloser, error){
	"inflate":   func(r io.Reader) (io.ReadCloser, error) { return inflate.NewReader(r, inflate.Options{}), nil },
	"klauspost": func(r io.Reader) (io.ReadCloser, error) { return klauspost.NewReader(r) },
	"pgzip":     func(r io.Reader) (io.ReadCloser, error) { return pgzip.NewReader(r) },
	"stdlib":    func(r io.Reader) (io.ReadCloser, error) { return stdlib.NewReader(r) },
}

func main() {
	with := flag.String("with", "inflate", "the `LIBRARY`: inflate, klauspost, pgzip or stdlib")
	workers := flag.Int("workers", 1, "have `N` goroutines decode with inflate")
	flag.Parse()
	open := libraries[*with]
	if *workers > 1 && *with == "inflate" {
		open = func(r io.Reader) (io.ReadCloser, error) {
			return inflate.NewParallelReader(context.Background(), r, inflate.ParallelOptions{Workers: *workers}), nil
		}
	}
	if open == nil || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(open, flag.Arg(0)); err != nil {
		fmt.Fprintf(os.Stderr, "gunzip: decode %s: %v\n", flag.Arg(0), err)
		os.Exit(1)
	}
}

func run(open func(io.Reader) (io.ReadCloser, error), file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := open(f)
	if err != nil {
		return err
	}
	_, err = io.Copy(os.Stdout, z)
	return errors.Join(err, z.Close())
}
