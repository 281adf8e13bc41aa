package auth

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fastpull/fastpull/internal/jsonlimit"
	"github.com/fastpull/fastpull/internal/text"
)

const (
	// maxAnswer is the most bytes of an answer, packed and unpacked.
	maxAnswer = 1 << 20
	// maxWords is how many characters of an answer are shown.
	maxWords = 200
)

// Error is an answer of a token server without a token.
type Error struct {
	Server string // host of the token server
	Status int
	Header http.Header
	Words  string // what it said, fit for one line, or what is wrong with it
}

// Error implements [error].
func (e *Error) Error() string {
	s := fmt.Sprintf("the token server %s answers %d %s", e.Server, e.Status, http.StatusText(e.Status))
	if e.Words != "" {
		s += ": " + e.Words
	}
	return s
}

// read reads an answer.
func (e exchange) read(resp *http.Response) (Grant, error) {
	server := e.at.Host
	if resp.Request != nil {
		server = resp.Request.URL.Host // at the end of redirects
	}
	failure := &Error{Server: server, Status: resp.StatusCode, Header: resp.Header}
	data, err := body(resp)
	good := resp.StatusCode/100 == 2
	switch {
	case errors.Is(err, errTooLarge):
		failure.Words = fmt.Sprintf("its answer is larger than %d bytes", maxAnswer)
		return Grant{}, failure
	case err != nil && good:
		return Grant{}, fmt.Errorf("read the answer of the token server %s: %w", server, err)
	}
	var fields map[string]json.RawMessage
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch err := jsonlimit.Unmarshal(data, &fields); {
	case err != nil && good:
		failure.Words = fmt.Sprintf("no token, but %q", text.Cut(kind, 60))
		return Grant{}, failure
	case err != nil:
		failure.Words = plainWords(kind, data)
		return Grant{}, failure
	case !good:
		failure.Words = Words(data)
		return Grant{}, failure
	}
	token := stringOf(fields["token"])
	if token == "" {
		token = stringOf(fields["access_token"])
	}
	if token == "" || strings.ContainsAny(token, "\r\n\x00") {
		failure.Words = "no token: " + text.Cut(string(data), maxWords)
		return Grant{}, failure
	}
	return Grant{Authorization: "Bearer " + token, Expires: expiry(fields["expires_in"], time.Now())}, nil
}

var errTooLarge = errors.New("too large")

// body reads a body, and unpacks one that is gzip'ed.
func body(resp *http.Response) ([]byte, error) {
	data, err := bounded(resp.Body)
	if err != nil || !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, err
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return bounded(z)
}

func bounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if len(data) > maxAnswer {
		return nil, errTooLarge
	}
	return data, err
}

// stringOf returns a JSON string, "" for anything else.
func stringOf(raw json.RawMessage) (s string) {
	_ = json.Unmarshal(raw, &s)
	return s
}

// expiry returns the time at which a token expires. raw has the number of seconds, as a number
// or a string. The result is the zero time if raw has no valid number.
func expiry(raw json.RawMessage, now time.Time) time.Time {
	s := stringOf(raw)
	if s == "" {
		s = string(raw)
	}
	const most = 365 * 24 * 3600
	seconds, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(seconds > 0) {
		return time.Time{}
	}
	return now.Add(time.Duration(min(seconds, most) * float64(time.Second)))
}

// plainWords returns what an answer says that is no JSON: nothing of a page.
func plainWords(kind string, data []byte) string {
	if kind == "text/html" || bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) {
		return "a page (" + text.Cut(kind, 60) + ")"
	}
	return text.Cut(strings.TrimSpace(string(data)), maxWords)
}

// Words returns the description of an error from a JSON document of a server, in one line. It
// knows the format of registries, that of OAuth 2.0, and fields with common names.
func Words(data []byte) string {
	var doc struct {
		Errors           []struct{ Code, Message string }
		Error            json.RawMessage
		ErrorDescription string `json:"error_description"`
		Message          json.RawMessage
		Details, Detail  json.RawMessage
	}
	// A field of another type leaves those that are right.
	_ = jsonlimit.Unmarshal(data, &doc)
	var parts []string
	add := func(list ...string) {
		for _, s := range list {
			if s = strings.TrimSpace(s); s != "" {
				parts = append(parts, s)
			}
		}
	}
	for _, e := range doc.Errors {
		add(strings.TrimPrefix(strings.TrimSuffix(e.Code+": "+e.Message, ": "), ": "))
	}
	if len(parts) == 0 {
		add(stringOf(doc.Error), doc.ErrorDescription, stringOf(doc.Message), stringOf(doc.Details), stringOf(doc.Detail))
	}
	return text.Cut(strings.Join(parts, "; "), maxWords)
}
