package pull

import (
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// trips finds the longest chain of requests of which each began after the one before had
// its answer. Answers take a while, so that requests that are sent together begin together.
type trips struct {
	inner http.Handler
	token bool // requests need one

	mu   sync.Mutex
	done int // length of the longest chain that has its answer
}

func (c *trips) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	at := c.done + 1
	c.mu.Unlock()
	time.Sleep(300 * time.Millisecond)
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.done = max(c.done, at)
	}()
	switch {
	case c.token && r.URL.Path == "/token":
		fmt.Fprint(w, `{"token":"t"}`)
	case c.token && r.Header.Get("Authorization") != "Bearer t":
		w.Header().Set("WWW-Authenticate", `Bearer realm="/token",service="s",scope="repository:img:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
	default:
		c.inner.ServeHTTP(w, r)
	}
}

// A small image takes no more round trips than it has to: those of the manifest, the
// config, and all layers together; and of a login, two.
func TestRoundTrips(t *testing.T) {
	for _, tc := range []struct {
		token         bool
		first, second int
	}{{false, 3, 1}, {true, 5, 3}} {
		s := serve(t)
		var layers []v1.Layer
		for i := range 12 {
			layers = append(layers, noise(t, fmt.Sprint("layer", i), 40<<10))
		}
		ref := s.push(t, "img:1", layers...)
		c := &trips{inner: s.handler, token: tc.token}
		s.handler = c
		// On a busy machine requests that are sent together may arrive apart: the least counts.
		least := [2]int{100, 100}
		for try := 0; try < 10 && least != [2]int{tc.first, tc.second}; try++ {
			o := storeOptions(filepath.Join(t.TempDir(), "store"), ref)
			for run := range least {
				c.done = 0
				if _, err := pull(t, t.Context(), o); err != nil {
					t.Fatal(err)
				}
				least[run] = min(least[run], c.done)
			}
		}
		if least != [2]int{tc.first, tc.second} {
			t.Errorf("token %v: %d round trips, want %d and %d", tc.token, least, tc.first, tc.second)
		}
	}
}
