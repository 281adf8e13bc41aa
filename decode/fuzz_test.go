package decode

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/inflate"
)

// FuzzReader gives any bytes for a blob. What Go's own gzip takes must come out,
// and nothing is ever whole that does not hash to its diffID.
func FuzzReader(f *testing.F) {
	plain := content(200)
	for _, seed := range [][]byte{nil, plain, gz(f, plain), join(gz(f, plain), gz(f, plain), make([]byte, 9)), zst(f, plain), xzed(f, plain), join(skippable("x"), zst(f, plain))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		const most = 1 << 20
		want := expect(blob, plain)
		accepted := false
		if z, err := gzip.NewReader(bytes.NewReader(blob)); err == nil {
			b, err := io.ReadAll(io.LimitReader(z, most))
			if err == nil && len(b) < most {
				want.DiffID, accepted = digest.FromBytes(b), true
			}
		}
		r := NewReader(t.Context(), bytesBlob(blob), want, ReaderOptions{MaxPlain: most})
		defer r.Close()
		got, err := io.ReadAll(r)
		// What package inflate says to be otherwise than compress/gzip, and a refusal that
		// says how much memory the stream asks for.
		var e *inflate.Error
		if errors.As(err, &e) && e.Reason == "flags that are reserved" || fault.KindOf(err) == fault.Failed && strings.Contains(err.Error(), "and the limit is") {
			return
		}
		if err != nil && (accepted || fault.KindOf(err) != fault.Corrupt || errors.Is(err, ErrDigest)) {
			t.Fatalf("%v (gzip took it: %t)", err, accepted)
		}
		if err == nil && digest.FromBytes(got) != want.DiffID {
			t.Fatal("taken for whole, and it is not")
		}
	})
}
