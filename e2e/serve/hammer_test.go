//go:build e2e

package serve

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/fastpull/fastpull/e2e/kit"
)

// hammer has clients ask a fastpull serve for the layers of an image, most of them for
// several ranges, and reset their connections, until stop is called: half of them with
// the address of honest clients. stop expects that nothing is left of them.
func hammer(t *testing.T, r *kit.Running, addr, image string) (stop func()) {
	t.Helper()
	repository, tag, _ := strings.Cut(image, ":")
	resp, err := http.Get("http://" + addr + "/v2/" + repository + "/manifests/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m ocispec.Manifest
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil || len(m.Layers) == 0 {
		t.Fatalf("the manifest of %s: %v", image, err)
	}
	http.DefaultClient.CloseIdleConnections()
	open := func() int {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.Cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	before := open()

	var clients sync.WaitGroup
	var resets atomic.Int64
	end := make(chan struct{})
	for n := range 8 {
		from := []string{"127.0.0.1", "127.0.0.9"}[n%2]
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 0))
			for {
				select {
				case <-end:
					return
				case <-time.After(2 * time.Millisecond):
				}
				l := m.Layers[random.IntN(len(m.Layers))]
				if err := resetRequest(addr, from, "/v2/"+repository+"/blobs/"+l.Digest.String(), l.Size, random); err != nil {
					t.Errorf("a client that will reset its connection: %v", err)
					return
				}
				resets.Add(1)
			}
		})
	}
	return func() {
		t.Helper()
		close(end)
		clients.Wait()
		if n := resets.Load(); n < 100 {
			t.Errorf("only %d connections were reset meanwhile", n)
		}
		// Clients that have ended in good order may have a connection open for two minutes.
		if !kit.Eventually(20*time.Second, func() bool { return open() <= before+4 }) {
			t.Errorf("%d files are open, there were %d before %d connections were reset", open(), before, resets.Load())
		}
	}
}

// resetRequest asks for a blob, takes a part of the answer, and resets the connection.
func resetRequest(addr, from, path string, size int64, random *rand.Rand) error {
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	var ranges []string
	for i := range []int64{0, 2, 50, 500}[random.IntN(4)] {
		begin := max(size-1-i*size/500, 0)
		ranges = append(ranges, fmt.Sprintf("%d-%d", begin, begin+random.Int64N(5000)))
	}
	header := ""
	if len(ranges) > 0 {
		header = "Range: bytes=" + strings.Join(ranges, ",") + "\r\n"
	}
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", path, header)
	if _, err := io.CopyN(io.Discard, c, random.Int64N(60_000)); err != nil && err != io.EOF { // a small layer
		return err
	}
	return c.(*net.TCPConn).SetLinger(0)
}
