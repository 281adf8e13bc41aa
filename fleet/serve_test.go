package fleet

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/pull"
)

var update = flag.Bool("metrics.update", false, "write testdata/metrics.txt")

// TestMetrics compares all metrics with a text that Prometheus's own parser has read, in
// e2e/fleet.
func TestMetrics(t *testing.T) {
	s := NewState("v1.2.3\"\\\n")
	sum := summary()
	s.begin(nil, true)
	s.end(nil, NewLine(begun, sum, nil, false))
	s.begin(nil, true)
	s.end(nil, NewLine(begun.AddDate(0, 0, 1), sum, errors.New("down"), false))
	var b bytes.Buffer
	if err := s.WriteMetrics(&b); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/metrics.txt"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("metrics:\n%s\nwant:\n%s", b.String(), want)
	}
}

// TestServe asks for all there is, and for what is not there.
func TestServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := NewState("v1")
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	expect := func(method, path string, code int, words string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != code || !strings.Contains(string(body), words) {
			t.Errorf("%s %s: %d, %q, %v", method, path, resp.StatusCode, body, err)
		}
	}
	expect("GET", "/readyz", 503, "nothing was pulled yet\n")
	expect("GET", "/metrics", 200, "fastpull_ready 0\n")
	s.end(nil, NewLine(begun, &pull.Summary{}, nil, false))
	expect("GET", "/readyz", 200, "0 images\n")
	expect("HEAD", "/readyz", 200, "")
	expect("GET", "/metrics", 200, "fastpull_ready 1\n")
	expect("POST", "/readyz", 405, "")
	expect("GET", "/", 404, "")
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Serve(t.Context(), l); err == nil {
		t.Error("a listener that is closed is no error")
	}
}
