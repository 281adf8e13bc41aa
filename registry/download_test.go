package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/partial"
)

// large is a blob of which several chunks can be asked for at a time.
var large = func() string {
	b := make([]byte, 12<<20+4321)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}()

// serveLarge answers as a good registry does.
func serveLarge(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(large))
}

// upToLarge serves n bytes of what is asked for, and then does as then says.
func upToLarge(n int, then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		serveLarge(&limited{w, n}, r)
		http.NewResponseController(w).Flush()
		then(w, r)
	}
}

// download fetches a blob by way of a folder, and returns how much came for that.
func download(ctx context.Context, c *Client, ref Reference, d ocispec.Descriptor, in Target) ([]byte, int64, error) {
	k, err := c.Download(ctx, ref, d, in, nil)
	if err != nil {
		return nil, 0, err
	}
	defer k.Close()
	data, err := io.ReadAll(k)
	return data, k.Fetched(), err
}

// downloadAll fetches large as a whole, and returns how much came for that.
func downloadAll(t *testing.T, c *Client, ref Reference, in Target) int64 {
	t.Helper()
	got, n, err := download(t.Context(), c, ref, descriptor(large), in)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != large {
		t.Fatalf("got %d bytes, other ones", len(got))
	}
	return n
}

func folder(t *testing.T) *partial.Folder {
	return partial.In(filepath.Join(t.TempDir(), "partial"))
}

// What is asked for by several connections is all there, and came once.
func TestDownloadInParallel(t *testing.T) {
	s := newScript(t, serveLarge)
	in := folder(t)
	c := newClient(t, Options{ChunkSize: 1 << 20})
	if n := downloadAll(t, c, s.ref(t, ""), in); n != int64(len(large)) {
		t.Errorf("%d bytes came for a blob of %d", n, len(large))
	}
	if n := len(s.requests()); n < 6 {
		t.Errorf("asked for in %d parts", n)
	}
	// From the file alone.
	if n := downloadAll(t, c, s.ref(t, ""), in); n != 0 {
		t.Errorf("%d bytes came for a blob that was there", n)
	}
}

// Without a size of chunks a blob that is soon here is asked for by one connection,
// and one that takes long by several.
func TestDownloadSharesSlowRange(t *testing.T) {
	requests := 0
	for range 5 { // on a busy machine it may take long
		quick := newScript(t, serveLarge)
		downloadAll(t, newClient(t, Options{}), quick.ref(t, ""), folder(t))
		if requests = len(quick.requests()); requests <= 2 {
			break
		}
	}
	if requests > 2 {
		t.Errorf("a blob that was soon there was asked for in %d parts", requests)
	}
	var now, most atomic.Int32
	slow := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		serveLarge(&slowly{w, r, 32 << 10, 8 * time.Millisecond, nil}, r) // 4 MB/s at most
	})
	if n := downloadAll(t, newClient(t, Options{}), slow.ref(t, ""), folder(t)); n != int64(len(large)) {
		t.Errorf("%d bytes came for a blob of %d", n, len(large))
	}
	if most.Load() < 3 {
		t.Errorf("a blob that took long was asked for by %d at a time", most.Load())
	}
}

// slowly is a writer that lets some bytes through, and makes a pause.
type slowly struct {
	http.ResponseWriter
	r     *http.Request
	some  int
	pause time.Duration
	sent  *atomic.Int64 // nil does not count
}

func (s *slowly) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil && s.r.Context().Err() == nil {
		var m int
		m, err = s.ResponseWriter.Write(p[n:min(n+s.some, len(p))])
		n += m
		if s.sent != nil {
			s.sent.Add(int64(m))
		}
		http.NewResponseController(s.ResponseWriter).Flush()
		time.Sleep(s.pause)
	}
	return n, err
}

// A connection that is much slower than the others is given up, whichever it is:
// the blob takes hardly longer than the others do.
func TestDownloadSlowRange(t *testing.T) {
	var trickled atomic.Int64
	trickle := func(w http.ResponseWriter, r *http.Request) {
		serveLarge(&slowly{w, r, 2000, 50 * time.Millisecond, &trickled}, r)
	}
	for slow, steps := range [][]http.HandlerFunc{{trickle, serveLarge}, {serveLarge, serveLarge, trickle, serveLarge}} {
		s := newScript(t, steps...)
		c := newClient(t, Options{ChunkSize: 1 << 20})
		c.slowAfter = 200 * time.Millisecond
		trickled.Store(0)
		// What is not whole blocks comes again, on a busy machine of several connections.
		if n := downloadAll(t, c, s.ref(t, ""), folder(t)); n > int64(len(large))+512<<10 {
			t.Errorf("%d bytes came for a blob of %d", n, len(large))
		}
		if n := trickled.Load(); n == 0 || n > 512<<10 {
			t.Errorf("case %d: the slow connection has brought %d bytes", slow, n)
		}
	}
}

func TestDownload(t *testing.T) {
	size := len(large)
	wrong := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", size-1, size))
		w.WriteHeader(http.StatusPartialContent)
		io.WriteString(w, large)
	}
	withoutRanges := func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		serveLarge(w, r)
	}
	for _, tc := range []struct {
		name  string
		steps []http.HandlerFunc
		most  int64 // bytes that may come
		kind  fault.Kind
		words string
	}{
		{"reset", []http.HandlerFunc{upToLarge(100_000, reset), upToLarge(3<<20, reset), serveLarge}, int64(size), 0, ""},
		{"reset often", []http.HandlerFunc{
			upToLarge(100_000, reset), upToLarge(100_000, reset), upToLarge(100_000, reset), upToLarge(100_000, reset),
			upToLarge(100_000, reset), upToLarge(100_000, reset), upToLarge(100_000, reset), upToLarge(100_000, reset),
			serveLarge}, int64(size), 0, ""},
		{"stalled", []http.HandlerFunc{upToLarge(100_000, stall), upToLarge(100_000, stall), serveLarge}, int64(size), 0, ""},
		{"too many requests", []http.HandlerFunc{serveLarge, status(429), status(429), serveLarge}, int64(size), 0, ""},
		{"200 for a range", []http.HandlerFunc{withoutRanges}, int64(size), 0, ""},
		{"200 for a range, reset", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			upToLarge(5<<20, reset)(w, r)
		}, withoutRanges}, int64(size), 0, ""},
		{"200 for a later range", []http.HandlerFunc{serveLarge, withoutRanges}, 2 * int64(size), 0, ""},
		{"wrong range", []http.HandlerFunc{wrong, withoutRanges}, int64(size), 0, ""},
		{"416", []http.HandlerFunc{status(416), withoutRanges}, int64(size), 0, ""},
		{"not found", []http.HandlerFunc{status(404)}, 0, fault.NotFound, "no such blob"},
		{"gone", []http.HandlerFunc{upToLarge(100_000, reset), status(404)}, 100_000, fault.NotFound, "no such blob"},
		{"no more", []http.HandlerFunc{upToLarge(100_000, reset), status(500)}, 100_000, fault.Failed, "500"},
		{"shorter", []http.HandlerFunc{content("", "x")}, 0, fault.Corrupt, "fewer bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScript(t, tc.steps...)
			c := newClient(t, Options{StallTimeout: 500 * time.Millisecond, Retries: 3, ChunkSize: 1 << 20})
			in := folder(t)
			got, n, err := download(t.Context(), c, s.ref(t, ""), descriptor(large), in)
			if tc.kind != 0 {
				wantKind(t, err, tc.kind, "fetch blob sha256:", tc.words)
			} else if err != nil {
				t.Error(err)
			} else if string(got) != large {
				t.Errorf("got %d bytes, other ones", len(got))
			}
			// A connection that others go on for loses a part of a block.
			if most := tc.most + 10*partial.Block; n > most {
				t.Errorf("%d bytes came, want %d at most", n, most)
			}
			if n := len(slotsOf(t, c, s)); n != 0 {
				t.Errorf("%d slots are still taken", n)
			}
			if n := len(c.extra); n != 0 {
				t.Errorf("%d connections are still counted", n)
			}
		})
	}
}

// Another process, here another client, goes on with what there is.
func TestDownloadResumes(t *testing.T) {
	s := newScript(t, upToLarge(5<<20, stall), serveLarge)
	in := folder(t)
	first := newClient(t, Options{Connections: 1})
	k, err := first.Download(t.Context(), s.ref(t, ""), descriptor(large), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(k, make([]byte, 5<<20-partial.Block)); err != nil {
		t.Fatal(err)
	}
	k.Close()
	rest := downloadAll(t, newClient(t, Options{}), s.ref(t, ""), in)
	if most := int64(len(large) - 5<<20 + partial.Block); rest > most {
		t.Errorf("%d bytes came, want %d at most", rest, most)
	}
}

// Two at once: one fetches, the other reads what it got, and takes over.
func TestDownloadTogether(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprintf("dies=%v", dies), func(t *testing.T) {
			opened := make(chan struct{})
			hold := func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-opened:
				case <-r.Context().Done():
				}
			}
			steps := []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				r.Header.Del("Range")
				upToLarge(3<<20, hold)(w, r)
			}, serveLarge}
			s := newScript(t, steps...)
			in := folder(t)
			one, err := newClient(t, Options{}).Download(t.Context(), s.ref(t, ""), descriptor(large), in, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer one.Close()
			if _, err := io.ReadFull(one, make([]byte, 3<<20-partial.Block)); err != nil {
				t.Fatal(err)
			}
			waits := make(chan struct{})
			two, err := newClient(t, Options{}).Download(t.Context(), s.ref(t, ""), descriptor(large), in, func() { close(waits) })
			if err != nil {
				t.Fatal(err)
			}
			defer two.Close()
			<-waits
			got := make([]byte, 3<<20-partial.Block)
			if _, err := io.ReadFull(two, got); err != nil {
				t.Fatal(err)
			}
			if n := two.Fetched(); n != 0 {
				t.Errorf("the second has fetched %d bytes", n)
			}
			if dies {
				one.Close()
			} else {
				close(opened)
				go io.Copy(io.Discard, one)
			}
			rest, err := io.ReadAll(two)
			if err != nil || string(got)+string(rest) != large {
				t.Errorf("%d bytes, %v", len(got)+len(rest), err)
			}
			if n := two.Fetched(); (n > 0) != dies {
				t.Errorf("the second has fetched %d bytes", n)
			}
			if dies {
				close(opened)
			}
		})
	}
}

// One that has the file and does nothing does not hold up others, and what it has
// got, here and there, is not fetched again.
func TestDownloadSilent(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		t.Run(fmt.Sprintf("ranges=%v", ranges), func(t *testing.T) {
			s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
				if !ranges {
					r.Header.Del("Range")
				}
				serveLarge(w, r)
			})
			in := folder(t)
			f, err := in.Open(descriptor(large).Digest, int64(len(large)))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if mine, err := f.Own(); !mine || err != nil {
				t.Fatal(mine, err)
			}
			for _, part := range [][2]int{{0, 1 << 20}, {3 << 20, 4 << 20}, {len(large) - partial.Block, len(large)}} {
				// From the beginning of a block.
				from := part[0] / partial.Block * partial.Block
				if _, err := f.Writer(int64(from)).Write([]byte(large[from:part[1]])); err != nil {
					t.Fatal(err)
				}
			}
			want := f.Left()
			if !ranges {
				want = int64(len(large)) - 1<<20 // what had not to be skipped
			}
			c := newClient(t, Options{StallTimeout: 50 * time.Millisecond})
			c.followGrace = 50 * time.Millisecond
			if n := downloadAll(t, c, s.ref(t, ""), in); n != want {
				t.Errorf("%d bytes came, want %d", n, want)
			}
		})
	}
}

// Without a file it goes as well.
func TestDownloadWithoutSpace(t *testing.T) {
	s := newScript(t, serveLarge)
	blocked := write(t, "file", "")
	for name, in := range map[string]Target{"no folder": nil, "no place": partial.In(filepath.Join(blocked, "x"))} {
		if n := downloadAll(t, newClient(t, Options{}), s.ref(t, ""), in); n != int64(len(large)) {
			t.Errorf("%s: %d bytes came", name, n)
		}
	}
}

// What was damaged on disk is thrown away, and the ranges that it came by are not
// trusted again.
func TestDownloadDistrust(t *testing.T) {
	s := newScript(t, serveLarge)
	in := folder(t)
	c := newClient(t, Options{ChunkSize: 1 << 20})
	k, err := c.Download(t.Context(), s.ref(t, ""), descriptor(large), in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, k); err != nil {
		t.Fatal(err)
	}
	k.Close()
	if err := k.Distrust(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(in.Dir()); err != nil || len(entries) > 0 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
	before := len(s.requests())
	downloadAll(t, c, s.ref(t, ""), in)
	again := s.requests()[before:]
	if len(again) != 1 {
		t.Fatalf("asked %d times", len(again))
	}
	if again[0].Header.Get("Range") != "" {
		t.Errorf("asked for %q", again[0].Header.Get("Range"))
	}
}

func TestDownloadReader(t *testing.T) {
	s := newScript(t, serveLarge)
	k, err := newClient(t, Options{}).Download(t.Context(), s.ref(t, ""), descriptor(large), folder(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	head := make([]byte, 1<<20)
	if _, err := io.ReadFull(iotest.OneByteReader(k), head[:1000]); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(k)
	if err != nil || !bytes.Equal(append(head[:1000:1000], rest...), []byte(large)) {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if n, err := k.Read(head); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// Close ends a Read that waits, and leaves nothing running.
func TestDownloadClose(t *testing.T) {
	s := newScript(t, upToLarge(100_000, stall))
	c := newClient(t, Options{})
	before := runtime.NumGoroutine()
	k, err := c.Download(t.Context(), s.ref(t, ""), descriptor(large), folder(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, k)
		ended <- err
	}()
	time.Sleep(20 * time.Millisecond)
	k.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "closed") {
			t.Errorf("Read ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Read is still blocked")
	}
	c.Close()
	s.Close()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("goroutines are left:\n%s", buf[:runtime.Stack(buf, true)])
		}
	}
}
