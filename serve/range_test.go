package serve

import (
	"math"
	"net/http"
	"strings"
	"testing"
)

// ours is the entity tag of the tests, of a blob of 100 bytes.
const ours = `"sha256:ab"`

func request(method string, header ...string) *http.Request {
	q := &http.Request{Method: method, Header: make(http.Header)}
	for _, h := range header {
		key, value, _ := strings.Cut(h, ": ")
		q.Header.Add(key, value)
	}
	return q
}

func TestRequested(t *testing.T) {
	const whole = 200
	for _, tc := range []struct {
		header string // several lines of it
		size   int64
		status int
		off, n int64
	}{
		{"", 100, whole, 0, 100},
		{"Range: bytes=0-0", 100, 206, 0, 1},
		{"Range: bytes=10-19", 100, 206, 10, 10},
		{"Range: bytes=99-", 100, 206, 99, 1},
		{"Range: bytes=0-", 100, 206, 0, 100},
		{"Range: bytes=90-1000", 100, 206, 90, 10},
		{"Range: bytes=-10", 100, 206, 90, 10},
		{"Range: bytes=-1000", 100, 206, 0, 100},
		{"Range: Bytes=1-2", 100, 206, 1, 2},
		{"Range: bytes=, 1-2 ,", 100, 206, 1, 2},
		{"Range: bytes=5-99999999999999999999999", 100, 206, 5, 95},
		{"Range: bytes=-99999999999999999999999", 100, 206, 0, 100},
		// No byte of the blob.
		{"Range: bytes=100-", 100, 416, 0, 0},
		{"Range: bytes=100-200", 100, 416, 0, 0},
		{"Range: bytes=-0", 100, 416, 0, 0},
		{"Range: bytes=0-", 0, 416, 0, 0},
		{"Range: bytes=-5", 0, whole, 0, 0},
		{"Range: bytes=99999999999999999999999-", 100, 416, 0, 0},
		{"Range: bytes=99999999999999999999998-99999999999999999999999", math.MaxInt64, 416, 0, 0},
		// What is not valid, or not one range of bytes, is ignored.
		{"Range: bytes=0-1,5-6", 100, whole, 0, 100},
		{"Range: bytes=" + strings.Repeat("98-99,", 2000) + "0-1", 100, whole, 0, 100},
		{"Range: bytes=0-1\nRange: bytes=5-6", 100, whole, 0, 100},
		{"Range: bytes=", 100, whole, 0, 100},
		{"Range: bytes=-", 100, whole, 0, 100},
		{"Range: bytes=5", 100, whole, 0, 100},
		{"Range: bytes=5-2", 100, whole, 0, 100},
		{"Range: bytes=--5", 100, whole, 0, 100},
		{"Range: bytes=+1-2", 100, whole, 0, 100},
		{"Range: bytes=1-2x", 100, whole, 0, 100},
		{"Range: bytes=0x1-2", 100, whole, 0, 100},
		{"Range: bytes 1-2", 100, whole, 0, 100},
		{"Range: items=1-2", 100, whole, 0, 100},
		// Only if it is still the same.
		{"Range: bytes=1-2\nIf-Range: " + ours, 100, 206, 1, 2},
		{"Range: bytes=1-2\nIf-Range: W/" + ours, 100, whole, 0, 100},
		{`Range: bytes=1-2` + "\n" + `If-Range: "other"`, 100, whole, 0, 100},
		{"Range: bytes=1-2\nIf-Range: Wed, 21 Oct 2015 07:28:00 GMT", 100, whole, 0, 100},
	} {
		var lines []string
		if tc.header != "" {
			lines = strings.Split(tc.header, "\n")
		}
		part, status := requested(request(http.MethodGet, lines...), ours, tc.size)
		if status != tc.status || part != (span{tc.off, tc.n}) {
			t.Errorf("%.80q of %d bytes: %d, %d bytes from %d on; want %d, %d from %d on", tc.header, tc.size, status, part.n, part.off, tc.status, tc.n, tc.off)
		}
		if part, status := requested(request(http.MethodHead, lines...), ours, tc.size); status != whole || part != (span{0, tc.size}) {
			t.Errorf("HEAD with %.80q: %d, %v", tc.header, status, part)
		}
	}
}

// FuzzRequested has no part outside of the blob.
func FuzzRequested(f *testing.F) {
	for _, seed := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=9223372036854775807-", "bytes=-9223372036854775808", "bytes=0-1,2-3"} {
		f.Add(seed, int64(100))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		q := &http.Request{Method: http.MethodGet, Header: http.Header{"Range": {header}}}
		part, status := requested(q, ours, size)
		switch {
		case status == 416 && part == span{}:
		case status == 200 && part == span{0, size}:
		case status == 206 && part.off >= 0 && part.n > 0 && part.off <= size-part.n:
		default:
			t.Errorf("%q of %d bytes: %d, %v", header, size, status, part)
		}
	})
}

func TestPrecondition(t *testing.T) {
	for _, tc := range []struct {
		header string
		status int
	}{
		{"", 0},
		{"If-None-Match: " + ours, 304},
		{"If-None-Match: W/" + ours, 304},
		{"If-None-Match: *", 304},
		{`If-None-Match: "a,b", W/"c" , ` + ours, 304},
		{`If-None-Match: "other"` + "\nIf-None-Match: " + ours, 304},
		{`If-None-Match: "other"`, 0},
		{`If-None-Match: sha256:ab`, 0},
		{`If-None-Match: "sha256:ab`, 0},
		{"If-None-Match: ", 0},
		{"If-Match: " + ours, 0},
		{"If-Match: *", 0},
		{"If-Match: W/" + ours, 412},
		{`If-Match: "other"`, 412},
		{`If-Match: "other"` + "\nIf-None-Match: *", 412},
		{"If-Modified-Since: Wed, 21 Oct 2015 07:28:00 GMT", 0},
	} {
		var lines []string
		if tc.header != "" {
			lines = strings.Split(tc.header, "\n")
		}
		if status := precondition(request(http.MethodGet, lines...), ours); status != tc.status {
			t.Errorf("%q: %d, want %d", tc.header, status, tc.status)
		}
	}
}
