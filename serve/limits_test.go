package serve

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// from is a client at an address of the loopback.
func from(t *testing.T, ip string) *http.Client {
	t.Helper()
	tr := &http.Transport{
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext, MaxConnsPerHost: 100,
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// begin begins a GET, and returns the answer, whose body is to be closed.
func begin(t *testing.T, c *http.Client, address string) *http.Response {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestPerClient has a client take all that it may, and more. Its further requests wait,
// and are refused with a time to come back; requests of others are answered at once, and
// so are its own for other things than blobs.
func TestPerClient(t *testing.T) {
	h, path := one(make([]byte, 16<<20)) // more than the kernel takes for a client: 6 MiB
	lim := usual
	lim.blobs, lim.documents, lim.patience = bound{2, 4}, bound{2, 4}, 300*time.Millisecond
	lim.head = lim.patience / 3 // a request that was read in time may wait for longer
	host := "http://" + start(t, h, lim, nil)
	greedy, other, third := from(t, "127.0.0.2"), from(t, "127.0.0.3"), from(t, "127.0.0.4")
	taken := []*http.Response{begin(t, greedy, host+path), begin(t, greedy, host+path)}
	begun := time.Now()
	resp := begin(t, greedy, host+path)
	if took := time.Since(begun); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "5" || took < lim.patience {
		t.Errorf("the third of a client: %s after %v, %v", resp.Status, took, resp.Header)
	}
	if resp := begin(t, greedy, host+"/v2/"); resp.StatusCode != 200 {
		t.Errorf("what is no blob: %s", resp.Status)
	}
	for range 2 {
		if resp := begin(t, other, host+path); resp.StatusCode != 200 {
			t.Errorf("another client: %s", resp.Status)
		}
	}
	if resp := begin(t, third, host+path); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("more than all together may have: %s, %v", resp.Status, resp.Header)
	}
	// One that waits gets its turn when another one ends.
	time.AfterFunc(lim.patience/3, func() { taken[0].Body.Close() })
	if resp := begin(t, greedy, host+path); resp.StatusCode != 200 {
		t.Errorf("when there is room again: %s", resp.Status)
	}
}

// TestWaiting bounds how many requests wait, and forgets those whose client has gone.
func TestWaiting(t *testing.T) {
	g := newGate(2, 10, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	for range 2 {
		if _, err := g.enter(ctx, "a"); err != nil {
			t.Fatal(err)
		}
	}
	var waiting sync.WaitGroup
	for range 2 {
		waiting.Go(func() {
			if _, err := g.enter(ctx, "a"); err != context.Canceled {
				t.Errorf("it has waited: %v", err)
			}
		})
	}
	for tries := 0; g.requests("a") < 4; tries++ {
		if tries == 1000 {
			t.Fatal("nobody waits")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := g.enter(ctx, "a"); err != errCrowded {
		t.Errorf("there is no room to wait: %v", err)
	}
	if leave, err := g.enter(ctx, "b"); err != nil {
		t.Errorf("another client: %v", err)
	} else {
		leave()
	}
	cancel()
	waiting.Wait()
	if n := g.requests("a"); n != 2 || g.requests("b") != 0 || len(g.all) != 2 {
		t.Errorf("%d requests of the client are left, %d of all", n, len(g.all))
	}
}

func (g *gate) requests(client string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.guests[client]; c != nil {
		return c.requests
	}
	return 0
}

// TestConnections closes connections of a client that has too many, and no others.
func TestConnections(t *testing.T) {
	h, _ := one(nil)
	lim := usual
	lim.connections = bound{3, 8}
	addr := start(t, h, lim, nil)
	dial := func(ip string) net.Conn {
		t.Helper()
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	answers := func(c net.Conn) bool {
		t.Helper()
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
		var status [12]byte
		_, err := io.ReadFull(c, status[:])
		return err == nil && strings.HasSuffix(string(status[:]), "200")
	}
	var open []net.Conn
	for n := range 3 {
		open = append(open, dial("127.0.0.2"))
		if !answers(open[n]) {
			t.Errorf("connection %d is not answered", n)
		}
	}
	if answers(dial("127.0.0.2")) {
		t.Error("a fourth connection is answered")
	}
	if !answers(dial("127.0.0.3")) {
		t.Error("the connection of another client is not answered")
	}
	open[0].Close()
	for tries := 0; !answers(dial("127.0.0.2")); tries++ {
		if tries == 100 {
			t.Fatal("one was closed, and there is no room for another")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestClientOf(t *testing.T) {
	for remote, want := range map[string]string{
		"10.1.2.3:80":             "10.1.2.3",
		"[::ffff:10.1.2.3]:80":    "10.1.2.3",
		"[2001:db8:1:2:3::4]:80":  "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::]:9": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:80":       "fe80::/64",
		"@":                       "",
	} {
		if got := clientOf(remote); got != want {
			t.Errorf("%s is %q, want %q", remote, got, want)
		}
	}
}

// TestLimits leaves something for other clients however little there is.
func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		perClient, files, descriptors int
		blobs, connections            bound
	}{
		{0, 0, 500_000, bound{64, 1024}, bound{256, 4096}},
		{0, 12, 500_000, bound{64, 1024}, bound{256, 4096}},
		{0, 12, 960, bound{30, 40}, bound{256, 480}},
		{0, 0, 960, bound{64, 1024}, bound{256, 480}},
		{0, 12, 50, bound{1, 2}, bound{18, 25}},
		{0, 12, -10, bound{1, 2}, bound{1, 2}},
		{2000, 0, 500_000, bound{2000, 4000}, bound{8000, 16000}},
	} {
		l := newLimits(tc.perClient, tc.files, tc.descriptors)
		if l.blobs != tc.blobs || l.connections != tc.connections {
			t.Errorf("%+v: %+v", tc, l)
		}
	}
	if n := descriptors(); n < 50 {
		t.Errorf("%d more files can be opened", n)
	}
}

// TestNoFiles has a client come back when no file can be opened.
func TestNoFiles(t *testing.T) {
	d := digest.FromString("x")
	h := &Handler{repos: map[string]*repository{"img": {}}, from: contents{d: blob{1, func(int64) (io.ReadCloser, error) {
		return nil, fmt.Errorf("open the layer: %w", syscall.EMFILE)
	}}}}
	resp := begin(t, from(t, "127.0.0.2"), "http://"+start(t, h, usual, nil)+"/v2/img/blobs/"+d.String())
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, %v", resp.Status, resp.Header)
	}
}
