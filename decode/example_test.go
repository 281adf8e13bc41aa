package decode_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/decode"
)

// blob returns a layer as a registry has it, and what its manifest and config say of it.
func blob(plain string) ([]byte, decode.Expect) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, plain)
	_ = w.Close()
	return b.Bytes(), decode.Expect{
		Digest: digest.FromBytes(b.Bytes()),
		Size:   int64(b.Len()),
		DiffID: digest.FromString(plain),
	}
}

// A Reader gives the plain tar of a layer. The bytes are verified when it returns io.EOF.
func ExampleNewReader() {
	data, want := blob("the plain tar of a layer")
	r := decode.NewReader(context.Background(), io.NopCloser(bytes.NewReader(data)), want, decode.ReaderOptions{})
	defer r.Close()
	plain, err := io.ReadAll(r)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", plain)
	// Output: the plain tar of a layer
}

// A blob that arrived damaged is told from one that was made wrong: fetching it again may
// help.
func ExampleErrDigest() {
	data, want := blob("the plain tar of a layer")
	data[20] ^= 1
	r := decode.NewReader(context.Background(), io.NopCloser(bytes.NewReader(data)), want, decode.ReaderOptions{})
	defer r.Close()
	_, err := io.ReadAll(r)
	fmt.Println(errors.Is(err, decode.ErrDigest))
	// Output: true
}

// Decompress finds the format by the first bytes, and verifies nothing.
func ExampleDecompress() {
	data, _ := blob("anything")
	d, err := decode.Decompress(context.Background(), bytes.NewReader(data), decode.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	plain, err := io.ReadAll(d)
	fmt.Printf("%s: %s %v\n", d.Format(), plain, err)
	// Output: gzip: anything <nil>
}
