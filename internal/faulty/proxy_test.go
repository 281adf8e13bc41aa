package faulty

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
)

// enough is the time for what ends by itself, also on a busy machine. What it is told
// from here lasts an hour.
const enough = time.Minute

func TestNoFault(t *testing.T) {
	eachProtocol(t, func(t *testing.T, o Options) {
		p := start(t, o)
		c := client(t, p)
		a := get(t, p, c, blobPath)
		if a.err != nil || a.StatusCode != 200 || !bytes.Equal(a.body, noise) || a.ContentLength != int64(len(noise)) {
			t.Errorf("a blob: %v, %d bytes", a.err, len(a.body))
		}
		if want := map[bool]int{false: 1, true: 2}[o.HTTP2]; a.ProtoMajor != want {
			t.Errorf("spoke HTTP/%d, want %d", a.ProtoMajor, want)
		}
		a = get(t, p, c, blobPath, "Range", "bytes=10-19")
		if a.err != nil || a.StatusCode != 206 || !bytes.Equal(a.body, noise[10:20]) || a.Header.Get("Content-Range") != "bytes 10-19/200000" {
			t.Errorf("a range: %v, %q, %d bytes", a.err, a.Header.Get("Content-Range"), len(a.body))
		}
		a = get(t, p, c, "/v2/app/manifests/tag")
		if a.err != nil || string(a.body) != "a manifest of /v2/app/manifests/tag" {
			t.Errorf("a manifest: %v, %q", a.err, a.body)
		}
		if a = get(t, p, c, "/v2/app/blobs/none"); a.err != nil || a.StatusCode != 404 {
			t.Errorf("a blob that is missing: %+v", a)
		}
		if got := p.Sent(blobDigest); got != int64(len(noise))+10 {
			t.Errorf("sent %d bytes of the blob", got)
		}
		if p.SentInAll() != p.Sent(blobDigest) || p.Requests(Blob) != 3 || p.Requests(Manifest) != 1 || len(p.Faults()) != 0 {
			t.Errorf("counted %+v", p.counts)
		}
	})
}

// TestBusiest: requests count as long as they are under way, and no longer.
func TestBusiest(t *testing.T) {
	eachProtocol(t, func(t *testing.T, o Options) {
		var ranges []Request
		script := Rules(Rule{On: Blob, Which: Ranged, Times: Always, Do: Stall(5)})
		o.Script = func(r Request) Fault {
			if r.Ranged {
				ranges = append(ranges, r)
			}
			return script(r)
		}
		p := start(t, o)
		c := client(t, p)
		for range 50 { // the next begins as soon as the last byte is there
			get(t, p, c, blobPath)
			get(t, p, c, "/v2/app/manifests/tag")
			if resp, err := c.Head(p.URL() + blobPath); err == nil {
				resp.Body.Close()
			}
		}
		if n := p.Busiest(); n != 1 {
			t.Errorf("%d requests at a time, one after the other", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for _, asked := range []string{"bytes=3-", "bytes=10-19", "bytes=20-29"} {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+blobPath, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Range", asked)
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
		}
		if n := p.Busiest(); n != 3 {
			t.Errorf("%d requests at a time, want 3", n)
		}
		p.Close() // no request is being looked at any more
		if len(ranges) != 3 || ranges[0].First != 3 || ranges[0].Last != -1 || ranges[2].First != 20 || ranges[2].Last != 29 {
			t.Errorf("ranges that were asked for: %+v", ranges)
		}
	})
}

// TestRate: all connections together get no more bytes a second. That they get as many
// is for TestLine, since a busy machine may not send them.
func TestRate(t *testing.T) {
	need.Time(t, "a slow line")
	eachProtocol(t, func(t *testing.T, o Options) {
		const most = 1 << 20
		o.Rate = most
		p := start(t, o)
		c := client(t, p)
		var wg sync.WaitGroup
		begun := time.Now()
		for range 4 {
			wg.Go(func() {
				if a := get(t, p, c, blobPath); a.err != nil || !bytes.Equal(a.body, noise) {
					t.Errorf("%v, %d bytes", a.err, len(a.body))
				}
			})
		}
		wg.Wait()
		rate := float64(4*len(noise)) / time.Since(begun).Seconds()
		if rate > 1.1*most {
			t.Errorf("%.0f bytes a second, more than %d", rate, most)
		}
	})
}

// TestLine has connections share a line, in turns.
func TestLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := line{rate: 1 << 20}
		var wg sync.WaitGroup
		begun := time.Now()
		for range 4 {
			wg.Go(func() {
				for left := len(noise); left > 0; {
					n := l.portion(left)
					if !l.carry(t.Context(), n) {
						t.Error("it was not carried")
					}
					left -= n
				}
			})
		}
		wg.Wait()
		want := time.Duration(4*len(noise)) * time.Second / (1 << 20)
		if took := time.Since(begun); took > want || took < want-20*time.Millisecond {
			t.Errorf("it took %v, want %v", took, want)
		}
	})
}

func TestToken(t *testing.T) {
	p := start(t, Options{TokenLife: time.Hour, Script: Rules(Rule{On: Blob, Nth: 3, Do: RevokeTokens()})})
	c := client(t, p)
	a := get(t, p, c, blobPath)
	want := `Bearer realm="` + p.URL() + `/token",service="faulty",scope="repository:app:pull"`
	if got := a.Header.Get("WWW-Authenticate"); a.StatusCode != 401 || got != want {
		t.Fatalf("without a token: %d, %s", a.StatusCode, got)
	}
	login := func() string {
		body := string(get(t, p, c, "/token").body)
		_, token, _ := strings.Cut(body, `"token":"`)
		token, _, _ = strings.Cut(token, `"`)
		return "Bearer " + token
	}
	token := login()
	for i, code := range []int{200, 401, 401} { // the third request for a blob, and the next
		if a := get(t, p, c, blobPath, "Authorization", token); a.StatusCode != code {
			t.Errorf("request %d: %d, want %d", i, a.StatusCode, code)
		}
	}
	if a := get(t, p, c, blobPath, "Authorization", login()); a.StatusCode != 200 {
		t.Errorf("with a new token: %d", a.StatusCode)
	}

	short := start(t, Options{TokenLife: time.Nanosecond})
	p = short
	if a := get(t, p, c, "/v2/", "Authorization", login()); a.StatusCode != 401 {
		t.Errorf("with a token that has run out: %d", a.StatusCode)
	}
}

func TestRedirect(t *testing.T) {
	p := start(t, Options{Redirect: true, Script: Rules(Rule{On: Target, Nth: 2, Do: ExpireTargets()})})
	c := client(t, p)
	a := get(t, p, c, blobPath)
	to := a.Header.Get("Location")
	if a.StatusCode != 307 || !strings.HasSuffix(to, blobPath) || strings.Contains(to, p.Addr) {
		t.Fatalf("%d to %s", a.StatusCode, to)
	}
	for i, code := range []int{200, 403, 403} {
		if a := get(t, p, c, to, "Range", "bytes=0-99"); code == 200 && a.StatusCode != 206 || code != 200 && a.StatusCode != code {
			t.Errorf("request %d: %d, want %d", i, a.StatusCode, code)
		}
	}
	if a := get(t, p, c, get(t, p, c, blobPath).Header.Get("Location")); !bytes.Equal(a.body, noise) {
		t.Errorf("a new redirect: %d", a.StatusCode)
	}
	if got := p.Sent(blobDigest); got != int64(len(noise))+100 {
		t.Errorf("sent %d bytes of the blob", got)
	}
}

func TestRefuse(t *testing.T) {
	eachProtocol(t, func(t *testing.T, o Options) {
		o.Script = Rules(Rule{On: Blob, Do: RefuseAfter(1000, 300*time.Millisecond)})
		p := start(t, o)
		c := client(t, p)
		begun := time.Now()
		if a := get(t, p, c, blobPath); a.err == nil || len(a.body) > 1000 {
			t.Errorf("%d bytes, %v", len(a.body), a.err)
		}
		a := get(t, p, c, blobPath)
		if time.Since(begun) < 300*time.Millisecond && !errors.Is(a.err, syscall.ECONNREFUSED) {
			t.Errorf("while it is closed: %v", a.err)
		}
		for time.Since(begun) < enough && a.err != nil {
			time.Sleep(20 * time.Millisecond)
			a = get(t, p, c, blobPath)
		}
		if took := time.Since(begun); a.err != nil || took < 300*time.Millisecond {
			t.Errorf("answers after %v: %v", took, a.err)
		}
	})
}

// TestClose has requests in all the states in which they wait.
func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	back := registry(t)
	eachProtocol(t, func(t *testing.T, o Options) {
		o.Registry = back
		o.Script = Rules(
			Rule{On: Blob, Do: Stall(10)}, Rule{On: Blob, Nth: 2, Do: Silence()}, Rule{On: Blob, Nth: 3, Do: Endless()},
			Rule{On: Blob, Nth: 4, Do: Trickle(10, 10)}, Rule{On: Blob, Nth: 5, Do: Refuse(time.Hour)})
		p := start(t, o)
		c := client(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for i := range 4 {
			go func() {
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, p.URL()+blobPath, nil)
				if resp, err := c.Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			for end := time.Now().Add(enough); p.Requests(Blob) <= i && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
		if got := strings.Join(p.Faults(), ", "); got != "stall after 10, no answer, endless, trickle after 10" {
			t.Fatal(got)
		}
		begun := time.Now()
		p.Close()
		if took := time.Since(begun); took > enough {
			t.Errorf("Close took %v", took)
		}
		p.Close() // and again
		c.CloseIdleConnections()
		if conn, err := net.Dial("tcp", p.Addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the port is still open: %v, %v", conn, err)
		}
	})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	// The registry of the test has a goroutine or two of its own.
	for end := time.Now().Add(enough); runtime.NumGoroutine() > before+3 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before+3 {
		buf := make([]byte, 64<<10)
		t.Errorf("%d goroutines, before %d\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
}

func TestCloseWhileRefusing(t *testing.T) {
	p := start(t, Options{})
	p.Refuse(time.Hour)
	begun := time.Now()
	if err := p.Close(); err != nil || time.Since(begun) > enough {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}

// A port that refuses is nobody else's: not to be had by chance, as listeners
// and connections get theirs.
func TestRefuseKeepsThePort(t *testing.T) {
	p := start(t, Options{})
	p.Refuse(time.Hour)
	if conn, err := net.Dial("tcp", p.Addr); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("connected to %s: %v, %v", p.Addr, conn, err)
	}
	addr, err := net.ResolveTCPAddr("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(addr.IP.To4())}); err != unix.EADDRINUSE {
		t.Errorf("the port can be had: %v", err)
	}
}
