package decode

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/fault"
)

// damaged makes sure that a blob is refused as corrupt. byDigest says that the
// blob is at fault and not its producer.
func damaged(t *testing.T, what string, blob []byte, want Expect, byDigest bool) {
	t.Helper()
	_, err := readAll(t, bytesBlob(blob), want, ReaderOptions{})
	switch {
	case err == nil:
		t.Errorf("%s: taken for whole", what)
	case fault.KindOf(err) != fault.Corrupt:
		t.Errorf("%s: not called corrupt: %v", what, err)
	case errors.Is(err, ErrDigest) != byDigest:
		t.Errorf("%s: is ErrDigest: %t, want %t: %v", what, !byDigest, byDigest, err)
	}
}

// A stream that stops anywhere is never whole: neither when it stopped on the way
// to us, nor when the registry has it like that, digest and all. For gzip the
// last 8 cuts are those of the trailer, which pgzip once did without.
func TestTruncated(t *testing.T) {
	plain := content(120)
	for name, blob := range map[string][]byte{
		"gzip": gz(t, plain), "two members": join(gz(t, plain[:50]), gz(t, plain[50:])),
		"zstd": zst(t, plain), "frames": framed(t, plain, 50), "xz": xzed(t, plain), "plain": plain,
	} {
		for n := range blob {
			what := name + " cut"
			damaged(t, what, blob[:n], expect(blob, plain), true)
			damaged(t, what+", consistently", blob[:n], Expect{digest.FromBytes(blob[:n]), int64(n), digest.FromBytes(plain)}, false)
		}
	}
}

// Each flipped bit is noticed, and it is the blob that is blamed, whatever the
// decoder says of it: fetching it again helps.
func TestFlipped(t *testing.T) {
	plain := content(100)
	for name, blob := range map[string][]byte{"gzip": gz(t, plain), "zstd": zst(t, plain), "frames": framed(t, plain, 40), "xz": xzed(t, plain), "plain": plain} {
		for i := range blob {
			bad := bytes.Clone(blob)
			bad[i] ^= 1 << (i % 8)
			damaged(t, name, bad, expect(blob, plain), true)
		}
	}
	// A large one, where the decoder fails long before the blob's end.
	plain = content(2 << 20)
	blob := gz(t, plain)
	blob[1000] ^= 0x10
	good := gz(t, plain)
	damaged(t, "large gzip", blob, expect(good, plain), true)
}

func TestLies(t *testing.T) {
	plain := content(5000)
	blob := gz(t, plain)
	good := expect(blob, plain)
	with := func(change func(*Expect)) Expect {
		e := good
		change(&e)
		return e
	}
	damaged(t, "size too small", blob, with(func(e *Expect) { e.Size-- }), true)
	damaged(t, "size too large", blob, with(func(e *Expect) { e.Size++ }), true)
	damaged(t, "size 0", blob, with(func(e *Expect) { e.Size = 0 }), true)
	damaged(t, "digest", blob, with(func(e *Expect) { e.Digest = digest.FromString("") }), true)
	damaged(t, "empty blob", nil, good, true)
	damaged(t, "diffID", blob, with(func(e *Expect) { e.DiffID = e.Digest }), false)
	damaged(t, "diffID of nothing", blob, with(func(e *Expect) { e.DiffID = digest.FromString("") }), false)
	junk := join(blob, []byte("junk"))
	damaged(t, "junk behind", junk, expect(junk, plain), false)
	junk = join(blob, make([]byte, 600), []byte{1})
	damaged(t, "junk behind padding", junk, expect(junk, plain), false)
	junk = join(blob, blob[:2])
	damaged(t, "half a member behind", junk, expect(junk, plain), false)
	junk = join(zst(t, plain), []byte("junk"))
	damaged(t, "junk behind zstd", junk, expect(junk, plain), false)
	junk = join(framed(t, plain, 100), []byte("junk"))
	damaged(t, "junk behind frames", junk, expect(junk, plain), false)
	long := join(blob[:len(blob)-4], []byte{1, 2, 3, 4})
	damaged(t, "wrong length in the trailer", long, expect(long, plain), false)
}

// What is no layer is refused, and the digest is the better reason for that.
func TestNoLayer(t *testing.T) {
	for _, blob := range []string{
		"BZ", "\x1f", "\x1f\x8b", "{}", strings.Repeat("\x00", 511), "BZhang Wei wrote this",
		`{"_type":"https://in-toto.io/Statement/v1"}` + strings.Repeat(" ", 1000), "\x04\x22\x4d\x18 is of lz4",
	} {
		b := []byte(blob)
		damaged(t, blob, b, expect(b, b), false)
		damaged(t, blob, b, expect([]byte("another"), b), true)
	}
}

// The blob is judged before its last bytes go on, so that Arrived is only said of
// a good one.
func TestArrivedIsVerified(t *testing.T) {
	blob := content(1000)
	want := expect(blob, blob)
	want.Digest = digest.FromString("another")
	arrived := false
	if _, err := readAll(t, bytesBlob(blob), want, ReaderOptions{Arrived: func() { arrived = true }}); !errors.Is(err, ErrDigest) || arrived {
		t.Errorf("arrived %t, %v", arrived, err)
	}
}

// A small blob can be a lot of zeroes.
func TestBomb(t *testing.T) {
	plain := make([]byte, 8<<20)
	const most = 1 << 20
	for name, blob := range map[string][]byte{"gzip": gz(t, plain), "zstd": zst(t, plain), "frames": framed(t, plain, maxFramePlain), "members": bytes.Repeat(gz(t, plain[:1<<18]), 32)} {
		got, err := readAll(t, bytesBlob(blob), expect(blob, plain), ReaderOptions{MaxPlain: most})
		if fault.KindOf(err) != fault.Failed || errors.Is(err, ErrDigest) || fault.HintOf(err) == "" { // it may as well be the disk that is full
			t.Errorf("%s: %v", name, err)
		}
		if len(got) > most {
			t.Errorf("%s: %d bytes came through", name, len(got))
		}
	}
	// zstd asks for memory before it has any content.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0x00, 0x00}
	if _, err := readAll(t, bytesBlob(frame), expect(frame, nil), ReaderOptions{}); fault.KindOf(err) != fault.Failed || fault.HintOf(err) == "" || errors.Is(err, ErrDigest) {
		t.Errorf("a window of terabytes: %v", err)
	}
}

// What the source says passes through, and is not the image's fault.
func TestSourceError(t *testing.T) {
	plain := content(200 << 10)
	broken := errors.New("the line is dead")
	for name, blob := range map[string][]byte{"gzip": gz(t, plain), "zstd": zst(t, plain), "frames": framed(t, plain, 30<<10), "xz": xzed(t, plain), "plain": plain} {
		for _, at := range []int{0, 3, len(blob) / 2, len(blob)} {
			for _, source := range []error{broken, io.ErrUnexpectedEOF} {
				in := &blobOf{Reader: io.MultiReader(bytes.NewReader(blob[:at]), iotest.ErrReader(source))}
				_, err := readAll(t, in, expect(blob, plain), ReaderOptions{})
				if !errors.Is(err, source) || errors.Is(err, ErrDigest) || fault.KindOf(err) != fault.Failed {
					t.Errorf("%s at %d: %v", name, at, err)
				}
			}
		}
	}
	denied := fault.New(fault.Denied, "log in first")
	_, err := readAll(t, &blobOf{Reader: iotest.ErrReader(denied)}, expect(plain, plain), ReaderOptions{})
	if fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), "log in") {
		t.Errorf("the kind of the source's error is lost: %v", err)
	}
}
