package daemon

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxAnswer is more than an Engine answers to any question, also with 10,000 containers.
const maxAnswer = 32 << 20

// bounded is a transport that bounds answers, since the API client decodes them whole. Answers to a
// load or an import have no bound: they are streams of messages, which are read one by one.
type bounded struct{ *http.Transport }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(q)
	if err == nil && !strings.HasSuffix(q.URL.Path, "/images/load") && !strings.HasSuffix(q.URL.Path, "/images/create") {
		resp.Body = &boundedBody{resp.Body, maxAnswer}
	}
	return resp, err
}

// boundedBody is a body that may have left more bytes.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n, fmt.Errorf("its answer is too large: it has more than %d MiB", maxAnswer>>20)
	}
	return n, err
}
