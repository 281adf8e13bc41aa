//go:build e2e

package kit

import (
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func TestParseAccessLog(t *testing.T) {
	h := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("ab", 32)}
	tr := parseAccessLog(`time="2026-11-23T15:54:17Z" level=warning msg="GET /v2/a/blobs/x 200 5"
127.0.0.1 - - [23/Nov/2026:15:54:17 +0000] "GET /v2/img/manifests/1 HTTP/1.1" 200 700 "" "x"
127.0.0.1 - ali [23/Nov/2026:15:54:17 +0000] "GET /v2/img/blobs/` + h.String() + ` HTTP/1.1" 206 40 "" "x \"y\""
127.0.0.1 - - [23/Nov/2026:15:54:18 +0000] "GET /v2/img/blobs/` + h.String() + ` HTTP/2.0" 200 60 "" ""
127.0.0.1 - - [23/Nov/2026:15:54:18 +0000] "GET /v2/img/blobs/sha256:00 HTTP/1.1" 404 157 "" ""
127.0.0.1 - - [23/Nov/2026:15:54:18 +0000] "HEAD /v2/img/blobs/sha256:00 HTTP/1.1" 200 0 "" ""
127.0.0.1 - - [23/Nov/2026:15:54:18 +0000] "PUT /v2/img/blobs/uploads/ HTTP/1.1" 201 9 "" ""
`)
	if gets, bytes := tr.Blob(h); gets != 2 || bytes != 100 {
		t.Errorf("blob: %d requests, %d bytes; want 2 and 100", gets, bytes)
	}
	if gets, bytes := tr.Blobs(); gets != 2 || bytes != 100 {
		t.Errorf("blobs: %d requests, %d bytes; want 2 and 100", gets, bytes)
	}
	if n := tr.Manifests(); n != 1 {
		t.Errorf("manifests: %d, want 1", n)
	}
	if len(tr) != 5 {
		t.Errorf("%d lines, want the 5 that are GET and HEAD", len(tr))
	}
}
