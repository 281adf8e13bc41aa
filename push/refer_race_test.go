package push

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
	"github.com/fastpull/fastpull/registry"
)

// lists is a registry without the referrers API that has a hand in the requests for
// the index that stands in for it.
type lists struct {
	http.Handler
	tag string
	get func()      // before each GET
	put func() bool // before each PUT, which counts if it says so
}

func (l *lists) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/manifests/"+l.tag) {
		switch {
		case r.Method == http.MethodGet:
			l.get()
		case r.Method == http.MethodPut && !l.put():
			w.WriteHeader(http.StatusCreated)
			return
		}
	}
	l.Handler.ServeHTTP(w, r)
}

// referring starts such a registry with artifacts that refer to a subject and are not
// listed yet.
func referring(t *testing.T, l *lists, n int) (s *site, ref registry.Reference, subject digest.Digest, artifacts []ocispec.Descriptor) {
	t.Helper()
	l.Handler = testkit.RegistryHandler()
	s = siteOf(t, l)
	index := platforms(t, "amd64")
	top := descriptor(t, index)
	s.write(t, "img:1", index)
	for i := range n {
		a := attached(t, fmt.Sprint("artifact", i), nil)
		d := descriptor(t, a)
		s.write(t, "img@"+d.Digest.String(), a)
		artifacts = append(artifacts, ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size})
	}
	subject = digest.Digest(top.Digest.String())
	l.tag = registry.ReferrersTag(subject)
	return s, s.ref(t, "img:1"), subject, artifacts
}

// TestReferTogether has programs read the list at the same time, and put theirs one
// after the other: each takes away what was put before.
func TestReferTogether(t *testing.T) {
	const programs = 3
	var reading sync.WaitGroup
	reading.Add(programs)
	var mu sync.Mutex
	gets, puts := 0, 0
	l := &lists{
		get: func() {
			mu.Lock()
			gets++
			first := gets <= programs
			mu.Unlock()
			if first {
				reading.Done()
				reading.Wait()
			}
		},
		put: func() bool {
			mu.Lock()
			defer mu.Unlock()
			if puts++; puts <= programs {
				time.Sleep(20 * time.Millisecond) // a client that looked at once would find its own entry
			}
			return true
		},
	}
	s, ref, subject, artifacts := referring(t, l, programs+1)
	var g errgroup.Group
	for _, a := range artifacts[:programs] {
		g.Go(func() error { return s.client.Refer(t.Context(), ref, subject, []ocispec.Descriptor{a}) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	list, err := s.client.Referrers(t.Context(), ref, subject)
	if err != nil || len(list) != programs {
		t.Errorf("%d are listed, %v; after %d reads and %d writes", len(list), err, gets, puts)
	}
	// A single client writes once, and not at all if there is nothing to add.
	puts = programs
	for range 2 {
		if err := s.client.Refer(t.Context(), ref, subject, artifacts[1:]); err != nil || puts != programs+1 {
			t.Errorf("%d writes, %v", puts-programs, err)
		}
	}
}

// TestReferInVain has a registry whose list never has what is put.
func TestReferInVain(t *testing.T) {
	puts := 0
	l := &lists{get: func() {}, put: func() bool { puts++; return false }}
	s, ref, subject, artifacts := referring(t, l, 2)
	err := s.client.Refer(t.Context(), ref, subject, artifacts)
	if err == nil || !strings.Contains(err.Error(), "2 of 2 are not in the list") || fault.HintOf(err) == "" || puts != 6 {
		t.Errorf("after %d writes: %v", puts, err)
	}
}
