package inflate_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"

	"github.com/fastpull/fastpull/inflate"
)

// compressed returns a gzip stream.
func compressed(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

// A Reader is used like that of compress/gzip. It is at its best with io.Copy, which takes
// its bytes without a copy.
func ExampleNewReader() {
	z := inflate.NewReader(bytes.NewReader(compressed("hello\n")), inflate.Options{})
	defer z.Close()
	if _, err := io.Copy(os.Stdout, z); err != nil {
		log.Fatal(err)
	}
	// Output: hello
}

// Several goroutines decode one stream. The bytes and errors are those of a Reader.
func ExampleNewParallelReader() {
	stream := compressed(strings.Repeat("hello, world\n", 1000))
	z := inflate.NewParallelReader(context.Background(), bytes.NewReader(stream), inflate.ParallelOptions{Workers: 4})
	defer z.Close()
	n, err := io.Copy(io.Discard, z)
	fmt.Println(n, err)
	// Output: 13000 <nil>
}

// Bytes before an error are right, but the stream is complete only with io.EOF.
func ExampleError() {
	stream := compressed("hello\n")
	stream[len(stream)-5] ^= 1 // of the checksum
	_, err := io.ReadAll(inflate.NewReader(bytes.NewReader(stream), inflate.Options{}))
	fmt.Println(errors.Is(err, inflate.ErrChecksum))
	// Output: true
}

// An index gets to the middle of a stream without decoding all bytes before.
func ExampleNewIndexReader() {
	stream := compressed(strings.Repeat("0123456789", 100_000))
	first, index := inflate.NewIndexReader(bytes.NewReader(stream), 64<<10)
	if _, err := io.Copy(io.Discard, first); err != nil {
		log.Fatal(err)
	}
	z, err := index.NewReader(bytes.NewReader(stream), 500_003)
	if err != nil {
		log.Fatal(err)
	}
	defer z.Close()
	p := make([]byte, 7)
	_, err = io.ReadFull(z, p)
	fmt.Println(string(p), err)
	// Output: 3456789 <nil>
}
