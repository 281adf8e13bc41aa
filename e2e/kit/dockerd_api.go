//go:build e2e

package kit

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
	"time"
)

// Info is what the Engine says of itself.
func (d *Dockerd) Info(t *testing.T) []byte {
	t.Helper()
	return []byte(d.Must(t, "info", "-f", "{{json .}}"))
}

// Has makes sure that the Engine has an image, and can do with it what it does.
func (d *Dockerd) Has(t *testing.T, id, what string) {
	t.Helper()
	for _, path := range []string{"json", "history", "get"} {
		if code, body := d.Call(t, http.MethodGet, "/images/"+id+"/"+path, nil); code != http.StatusOK {
			t.Errorf("%s: %s: %d %.300s", what, path, code, body)
		}
	}
	// Whether this works is the config's business, whether there is an answer is not.
	code, body := d.Call(t, http.MethodPost, "/containers/create", fmt.Appendf(nil, `{"Image":%q,"HostConfig":{"NetworkMode":"none"}}`, id))
	if code == 0 || code >= 400 && !json.Valid(body) {
		t.Errorf("%s: create: %d %.300s", what, code, body)
	}
}

// Call sends a request to the Engine, and returns the status and the whole answer; 0 if
// the connection ends before.
func (d *Dockerd) Call(t *testing.T, method, path string, body []byte) (code int, answer []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://docker/v1.41"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.Sock)
		},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, []byte(err.Error())
	}
	return resp.StatusCode, answer
}

// ImportLayer makes the plain tar a layer of the Engine, as docker import does:
// without a name, and by the same code as docker pull, only quicker. What the
// Engine has against the layer is the error.
func (d *Dockerd) ImportLayer(t *testing.T, plain []byte) error {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.Sock)
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
