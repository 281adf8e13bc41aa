//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// importLayer makes the plain tar a layer of the Engine, as docker import does:
// without a name, and by the same code as docker pull, only quicker. What the
// Engine has against the layer is the error.
func (d *dockerd) importLayer(t *testing.T, plain []byte) error {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.sock)
		}}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://docker/images/create?fromSrc=-", bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("ask dockerd to import a layer: %v", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	for d := json.NewDecoder(resp.Body); ; {
		var line struct {
			Error string `json:"error"`
		}
		if err := d.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			t.Fatalf("read dockerd's answer: %v", err)
		}
		if line.Error != "" {
			return errors.New(line.Error)
		}
	}
}
