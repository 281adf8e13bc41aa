//go:build e2e

package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestLine has requests go over a line: a new connection takes a round trip to open and one
// for the answer, and one that is open takes one.
func TestLine(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, long) }))
	defer s.Close()
	n, err := startLine(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	for i, trips := range []time.Duration{2, 1, 1} {
		begun := time.Now()
		resp, err := client.Get("http://" + n.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != long {
			t.Errorf("request %d: %d bytes, %v", i, len(body), err)
		}
		if took := time.Since(begun); took < trips*roundTrip {
			t.Errorf("request %d took %v, less than %d round trips", i, took, trips)
		}
	}
	resp, err := client.Get("http://" + n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close() // while it comes
	if err := n.close(); err != nil {
		t.Error(err)
	}
	if _, err := client.Get("http://" + n.Addr().String()); err == nil {
		t.Error("a line that is closed answers")
	}
}
