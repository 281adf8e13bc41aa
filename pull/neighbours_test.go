package pull

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/fetch"
	"github.com/fastpull/fastpull/internal/partial"
)

// lying is a layer whose image claims that it is another one.
type lying struct {
	v1.Layer
	as v1.Layer
}

// DiffID implements [v1.Layer].
func (l lying) DiffID() (v1.Hash, error) { return l.as.DiffID() }

// TestBadNeighbours: an image that claims to have the layer of another one, or whose registry
// lacks it, fails alone. Its verified blobs stay for the next run, and those of the other image
// do not.
func TestBadNeighbours(t *testing.T) {
	s := serve(t)
	base, other, kept, top := noise(t, "base", 64<<10), noise(t, "other", 64<<10), noise(t, "kept", 2<<20), noise(t, "top", 2<<20)
	good := s.push(t, "good:1", base, top)
	inner := s.handler
	for _, tc := range []struct {
		name   string
		lowest v1.Layer
		blob   string
		want   fault.Kind
	}{
		{"liar", lying{other, base}, blobOf(other), fault.Corrupt},
		{"lacks", base, blobOf(base), fault.NotFound},
	} {
		s.handler = inner
		bad := s.push(t, tc.name+":1", tc.lowest, kept)
		for _, kind := range []string{"store", "containerd-root"} {
			dir := filepath.Join(t.TempDir(), "to")
			held := func(l v1.Layer) bool {
				want := planned(t, l, "", false)
				return partial.In(fetch.PartialDir(dir)).Found(want.Digest, want.Size) == want.Size
			}
			asked := make(chan struct{})
			ask := sync.OnceFunc(func() { close(asked) })
			s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "good/manifests") {
					<-asked // the bad image is the first
				}
				if strings.Contains(r.URL.Path, tc.name) && strings.HasSuffix(r.URL.Path, tc.blob) {
					ask()
					// The image fails when its other layer is there.
					for end := time.Now().Add(10 * time.Second); kind == "store" && !held(kept) && time.Now().Before(end); {
						time.Sleep(5 * time.Millisecond)
					}
					if tc.want == fault.NotFound {
						http.NotFound(w, r)
						return
					}
				}
				inner.ServeHTTP(w, r)
			})
			o := to{Kind: kind, Path: dir}
			o.References, o.KeepGoing = append(o.References, bad, good), true
			sum, err := pull(t, t.Context(), o)
			if sum.Images[1].Status != Pulled || sum.Images[0].Status != Failed || fault.KindOf(sum.Images[0].Err) != tc.want {
				t.Errorf("%s into %s: %+v, %v", tc.name, kind, sum.Images, err)
			}
			if kind == "store" && (!held(kept) || held(top)) {
				t.Errorf("%s: the blob of the failed image is kept: %v, that of the other one: %v", tc.name, held(kept), held(top))
			}
		}
	}
}
