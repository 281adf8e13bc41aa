//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"net/http"
	"testing"
)

// TestGate holds a download in its midst, lets one end and another go on.
func TestGate(t *testing.T) {
	const limit = 300 << 10
	reg := startRegistry(t, registryOptions{})
	l := noiseLayer(t, 1<<20, 1)
	reg.push(t, "img:tag", makeImage(t, imageSpec{layers: []layer{l}}))
	g := startGate(t, reg)
	get := func() *http.Response {
		t.Helper()
		resp, err := http.Get("http://" + g.addr + "/v2/img/blobs/" + l.digest.String())
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}

	for name, interrupt := range map[string]bool{"a client that goes": true, "a client that stays": false} {
		g.arm(limit)
		resp := get()
		received := &logBuffer{}
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(received, resp.Body)
			done <- err
		}()
		g.hold(t, received)
		if n := len(received.String()); n > limit {
			t.Errorf("%s: %d bytes have come through, the limit is %d", name, n, limit)
		}
		select {
		case err := <-done:
			t.Errorf("%s: the download ended while it was held: %v", name, err)
		default:
		}
		if interrupt {
			resp.Body.Close()
			<-done
			g.open()
			continue
		}
		g.open()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		resp.Body.Close()
		if received.String() != string(l.packed) {
			t.Errorf("%s: what came is not the blob", name)
		}
	}

	resp := get()
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, l.packed) {
		t.Errorf("through the open gate: %d bytes, %v", len(got), err)
	}
}
