//go:build e2e

package kit

import (
	"bytes"
	"io"
	"net/http"
	"testing"
)

// TestGate holds a download in its midst, lets one end and another go on.
func TestGate(t *testing.T) {
	const limit = 300 << 10
	reg := StartRegistry(t, RegistryOptions{})
	l := NoiseLayer(t, 1<<20, 1)
	reg.Push(t, "img:tag", MakeImage(t, ImageSpec{Layers: []Layer{l}}))
	g := StartGate(t, reg)
	get := func() *http.Response {
		t.Helper()
		resp, err := http.Get("http://" + g.Addr + "/v2/img/blobs/" + l.Digest.String())
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}

	for name, interrupt := range map[string]bool{"a client that goes": true, "a client that stays": false} {
		g.Arm(limit)
		resp := get()
		received := &LogBuffer{}
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(received, resp.Body)
			done <- err
		}()
		g.WaitReached(t, received)
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
			g.Open()
			continue
		}
		g.Open()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		resp.Body.Close()
		if received.String() != string(l.Packed) {
			t.Errorf("%s: what came is not the blob", name)
		}
	}

	resp := get()
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, l.Packed) {
		t.Errorf("through the open gate: %d bytes, %v", len(got), err)
	}
}
