package trace

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestExchange(t *testing.T) {
	var told []string
	ctx := With(t.Context(), func(words string) { told = append(told, words) })
	request := func(address string) *http.Request {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer s3cret")
		req.Header.Set("Range", "bytes=5-9")
		return req
	}
	answer := &http.Response{Status: "206 Partial Content", ContentLength: 5, Proto: "HTTP/1.1", Header: http.Header{"Content-Type": {"a/b\x1b[2J"}}}
	redirected := request("https://cdn/s3cret/path?Signature=s3cret")
	redirected.Response = answer
	for _, tc := range []struct {
		req    *http.Request
		err    error
		server string
		want   string
	}{
		{request("https://user:s3cret@host/v2/a/blobs/x"), nil, "", `GET https://host/v2/a/blobs/x bytes=5-9 with Bearer credentials: 206 Partial Content, 5 bytes, a/b\x1b[2J, HTTP/1.1, after `},
		{request("https://host/token?service=reg&scope=repository%3Aa%3Apull&account=s3cret&X=s3cret"), nil, "", "https://host/token?service=reg&scope=repository:a:pull&account=...&X=... bytes="},
		{redirected, nil, "", "GET https://cdn/... (redirected) bytes="},
		{request("http://docker/v1.40/info"), nil, "unix:///s", "GET unix:///s/v1.40/info bytes="},
		{request("https://host/x"), &url.Error{Op: "Get", URL: "https://host/?s3cret", Err: errors.New("reset")}, "", "credentials: reset, after "},
	} {
		told = nil
		Exchange(tc.req, answer, tc.err, time.Now(), tc.server)
		if len(told) != 1 || !strings.Contains(told[0], tc.want) || strings.Contains(told[0], "s3cret") {
			t.Errorf("told %q, want %q in it and no secret", told, tc.want)
		}
	}
	told = nil
	Exchange(request("https://host/").WithContext(context.Background()), answer, nil, time.Now(), "")
	Tell(context.Background(), "nobody listens")
	if told != nil {
		t.Errorf("told %q without a listener", told)
	}
}
