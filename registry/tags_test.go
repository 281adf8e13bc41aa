package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// tagServer lists tags, two on a page. Its last page names link as the next one.
func tagServer(t *testing.T, link string, tags ...string) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/app/tags/list" {
			status(404)(w, r)
			return
		}
		i := 0
		if last := r.URL.Query().Get("last"); last != "" {
			i = slices.Index(tags, last) + 1
		}
		end := min(i+2, len(tags))
		switch {
		case end < len(tags):
			w.Header().Set("Link", fmt.Sprintf(`</v2/app/tags/list?last=%s&n=2>; rel="next"`, url.QueryEscape(tags[end-1])))
		case link != "":
			w.Header().Set("Link", link)
		}
		json.NewEncoder(w).Encode(map[string]any{"name": "app", "tags": tags[i:end]})
	}))
	t.Cleanup(server.Close)
	return server
}

func TestTags(t *testing.T) {
	ref := func(s *httptest.Server, name string) Reference {
		return parse(t, strings.TrimPrefix(s.URL, "http://")+"/"+name)
	}
	c := newClient(t, Options{Retries: -1, ManifestLimit: 1000})
	s := tagServer(t, "", "v2", "latest", "v1", "../x", "v1", "a b", "v10")
	if got, err := c.Tags(t.Context(), ref(s, "app")); err != nil || !slices.Equal(got, []string{"latest", "v1", "v10", "v2"}) {
		t.Errorf("%q, %v", got, err)
	}
	_, err := c.Tags(t.Context(), ref(s, "other"))
	wantKind(t, err, fault.NotFound, "no such repository")
	if got, err := c.Tags(t.Context(), ref(tagServer(t, ""), "app")); err != nil || len(got) != 0 {
		t.Errorf("none: %q, %v", got, err)
	}
	// The next page is one of the same list, wherever its address leads, and does not come
	// again.
	elsewhere := tagServer(t, `<http://169.254.169.254/x?last=c>; rel=next`, "a", "b", "c")
	if got, err := c.Tags(t.Context(), ref(elsewhere, "app")); err != nil && fault.KindOf(err) != fault.Corrupt {
		t.Errorf("%q, %v", got, err)
	}
	_, err = c.Tags(t.Context(), ref(tagServer(t, `</v2/app/tags/list?last=b&n=2>; rel="next"`, "a", "b", "c"), "app"))
	wantKind(t, err, fault.Corrupt, "does not end")
	for body, words := range map[string]string{"<html>": "cannot be read", `{"tags":["` + strings.Repeat("x", 1000) + `"]}`: "limit"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, body) }))
		_, err := c.Tags(t.Context(), ref(s, "app"))
		wantKind(t, err, fault.Corrupt, words)
		s.Close()
	}
}
