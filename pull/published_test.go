package pull

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/fastpull/fastpull/registry"
)

// TestNotPublished has something come into the place of what is made, so that the last
// step fails. No image counts as pulled then, nor do those of which another one has
// failed.
func TestNotPublished(t *testing.T) {
	s := serve(t)
	big := noise(t, "big", 300<<10)
	ref := s.push(t, "img:tag", big)
	missing := registry.Reference{}
	for name, options := range map[string]func(path string, refs ...registry.Reference) to{"archive": archiveOptions, "rootfs": rootfsOptions} {
		for what, refs := range map[string][]registry.Reference{"blocked": {ref}, "another failed": {ref, missing}} {
			if what == "another failed" {
				if name == "rootfs" {
					continue // it takes one image
				}
				var err error
				if refs[1], err = registry.ParseReference(s.host + "/none:tag"); err != nil {
					t.Fatal(err)
				}
			}
			path := filepath.Join(t.TempDir(), "out")
			var once sync.Once
			s.onBlob(func(*http.Request, string) {
				once.Do(func() {
					if err := errors.Join(os.Mkdir(path, 0o755), os.WriteFile(filepath.Join(path, "full"), nil, 0o600)); err != nil {
						t.Error(err)
					}
				})
			})
			o := options(path, refs...)
			o.KeepGoing = what == "blocked"
			told := 0
			o.Done = func(r Result) {
				if r.Status == Pulled {
					told++
				}
			}
			sum, err := pull(t, t.Context(), o)
			if err == nil {
				t.Errorf("%s, %s: no error", name, what)
			}
			for _, r := range sum.Images {
				if r.Status != Failed || r.Error == "" || r.Err == nil {
					t.Errorf("%s, %s: %s is %q, %v", name, what, r.Reference, r.Status, r.Err)
				}
			}
			if told > 0 {
				t.Errorf("%s, %s: it was told that %d were pulled", name, what, told)
			}
		}
	}
}
