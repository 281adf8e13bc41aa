package daemon

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

var part = Imported{Name: "host.invalid/part:1", Comment: "on its way", Label: "a.label", Value: "host/1"}

func TestImport(t *testing.T) {
	var got []byte
	var asked url.Values
	e := dialFake(t, &fake{images: func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query()
		got, _ = io.ReadAll(r.Body)
		say(w, `{"status":"sha256:1a2b"}`)
	}})
	sent := int64(0)
	if err := e.Import(t.Context(), strings.NewReader("a tar"), part, Watch{Sent: func(n int64) { sent += n }}); err != nil {
		t.Fatal(err)
	}
	want := url.Values{"fromSrc": {"-"}, "repo": {part.Name}, "message": {part.Comment}, "changes": {`LABEL "a.label"="host/1"`}}
	if string(got) != "a tar" || sent != 5 || !reflect.DeepEqual(asked, want) {
		t.Errorf("the Engine got %q with %v, want %v; %d bytes are said to be sent", got, asked, want, sent)
	}
}

// An Engine reports by the status or in the stream that it does not take the layer. Only that is
// a refusal.
func TestImportErrors(t *testing.T) {
	broken := errors.New("registry went away")
	for _, tc := range []struct {
		name    string
		images  http.HandlerFunc
		source  io.Reader
		refused bool
		want    string
	}{
		{"status", func(w http.ResponseWriter, r *http.Request) { fail(w, http.StatusForbidden, "denied by a plugin") }, zeros{}, true, "denied by a plugin"},
		{"proxy", func(w http.ResponseWriter, r *http.Request) { fail(w, http.StatusMethodNotAllowed, "no imports") }, strings.NewReader("a tar"), true, "no imports"},
		{"busy proxy", func(w http.ResponseWriter, r *http.Request) { fail(w, http.StatusServiceUnavailable, "not now") }, strings.NewReader("a tar"), true, "not now"},
		{"stream", func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			say(w, `{"error":"Error processing tar file"}`)
		}, strings.NewReader("no tar"), true, "Error processing tar file"},
		{"full disk", func(w http.ResponseWriter, r *http.Request) {
			fail(w, http.StatusInternalServerError, "write /x: no space left on device")
		}, zeros{}, false, "no space left"},
		{"source", func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) },
			io.MultiReader(io.LimitReader(zeros{}, 1000), iotest.ErrReader(broken)), false, broken.Error()},
		{"connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, strings.NewReader("a tar"), false, "broke off"},
	} {
		err := dialFake(t, &fake{images: tc.images}).Import(t.Context(), tc.source, part, Watch{})
		if err == nil || !strings.Contains(err.Error(), tc.want) || Refused(err) != tc.refused {
			t.Errorf("%s: %v, a refusal: %t; want %q, %t", tc.name, err, Refused(err), tc.want, tc.refused)
		}
	}
}
