package cli

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fastpull/fastpull/overlay"
)

// TestWatch follows a list with an image that is there and one that is not, and ends when it
// is told to.
func TestWatch(t *testing.T) {
	host := startRegistry(t)
	dir := t.TempDir()
	list, store, report := filepath.Join(dir, "list"), filepath.Join(dir, "store"), filepath.Join(dir, "report")
	if err := os.WriteFile(list, []byte(host+"/base:1\n"+host+"/none:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() {
		code <- Main(ctx, []string{"pull", "--store", store, "--progress=quiet", "--retries=0", "-f", list, "--watch", "--listen", at, "--report", report},
			Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	}()
	ask := func(path string) (text string) {
		resp, err := http.Get("http://" + at + path)
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.Status + "\n" + string(data)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(ask("/metrics"), `fastpull_runs_total{result="failed"} 1`); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no run has ended")
		}
	}
	if got := ask("/readyz"); !strings.HasPrefix(got, "503 ") || !strings.Contains(got, "/none:1: ") {
		t.Errorf("/readyz: %s", got)
	}
	for _, want := range []string{
		`fastpull_image_present{reference="` + host + `/base:1"} 1`, `fastpull_image_present{reference="` + host + `/none:1"} 0`,
		"fastpull_images_pulled_total 1", "fastpull_ready 0",
	} {
		if got := ask("/metrics"); !strings.Contains(got, want+"\n") {
			t.Errorf("/metrics lacks %s:\n%s", want, got)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel() // while it waits
	if c := <-code; c != 0 {
		t.Errorf("exit code %d\n%s", c, errs.String())
	}
	if !strings.Contains(out.String(), "/base:1@sha256:") || !strings.Contains(errs.String(), "fastpull: "+host+"/none:1: ") {
		t.Errorf("said %q and %q", out.String(), errs.String())
	}
	if data, err := os.ReadFile(report); err != nil || strings.Count(string(data), "\n") != 1 {
		t.Errorf("report: %v\n%s", err, data)
	}
	s, err := overlay.OpenReader(store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(host + "/base:1"); err != nil {
		t.Error(err)
	}
}
