//go:build e2e

package kit

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// fetch is a line of the registry's access log.
type fetch struct {
	method, path string
	status       int
	bytes        int64 // of the body
}

// accessLine is the combined log format, as far as it is of use here:
//
//	127.0.0.1 - ali [23/Nov/2026:15:54:17 +0000] "GET /v2/ HTTP/1.1" 200 2 "" "agent"
var accessLine = regexp.MustCompile(`^\S+ - \S+ \[[^]]+\] "(\S+) (\S+) HTTP/[\d.]+" (\d+) (\d+) `)

// Traffic is what the registry has answered since the last call of traffic,
// but for uploads.
func (r *Registry) Traffic(t *testing.T) Traffic {
	t.Helper()
	// The registry writes its line after the answer. A last request of our own
	// shows that the lines before it are there.
	last := r.marks
	r.marks++
	sentinel := fmt.Sprintf("?mark=%d", r.marks)
	if err := r.ping(sentinel); err != nil {
		t.Fatal(err)
	}
	if !Eventually(time.Minute, func() bool { return strings.Contains(r.out.String(), sentinel+" ") }) {
		t.Fatalf("the registry's access log does not show %s", sentinel)
	}
	text := r.out.String()
	if last > 0 {
		_, text, _ = strings.Cut(text, fmt.Sprintf("?mark=%d ", last))
	}
	text, _, _ = strings.Cut(text, sentinel+" ")
	return parseAccessLog(text)
}

type Traffic []fetch

func parseAccessLog(text string) Traffic {
	var list Traffic
	for line := range strings.Lines(text) {
		m := accessLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		f := fetch{method: m[1], path: m[2]}
		f.status, _ = strconv.Atoi(m[3])
		f.bytes, _ = strconv.ParseInt(m[4], 10, 64)
		if f.method == "GET" || f.method == "HEAD" {
			list = append(list, f)
		}
	}
	return list
}

// Blobs counts the requests that a blob's bytes answered, and those bytes.
// Requests for ranges count each.
func (tr Traffic) Blobs() (gets int, bytes int64) {
	return tr.sum("/blobs/")
}

// Blob does the same for one blob.
func (tr Traffic) Blob(h v1.Hash) (gets int, bytes int64) {
	return tr.sum("/blobs/" + h.String())
}

// Manifests counts the requests that a manifest answered.
func (tr Traffic) Manifests() int {
	gets, _ := tr.sum("/manifests/")
	return gets
}

func (tr Traffic) sum(part string) (gets int, bytes int64) {
	for _, f := range tr {
		if f.method == "GET" && f.status/100 == 2 && strings.Contains(f.path, part) {
			gets++
			bytes += f.bytes
		}
	}
	return gets, bytes
}
