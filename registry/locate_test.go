package registry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

func TestLocate(t *testing.T) {
	head := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodHead {
				t.Errorf("a blob is asked for by %s", r.Method)
			}
			next(w, r)
		}
	}
	elsewhere := head(http.RedirectHandler("http://"+strings.TrimPrefix(gone(), "http://")+"/signed", http.StatusTemporaryRedirect).ServeHTTP)
	for _, tc := range []struct {
		name           string
		mirror, origin http.HandlerFunc
		want           string
		kind           fault.Kind
	}{
		{"mirror", head(serve), head(reset), "mirror", 0},
		{"mirror redirects", elsewhere, head(reset), "mirror", 0},
		{"mirror has not", head(status(404)), head(serve), "origin", 0},
		{"mirror is broken", head(status(500)), elsewhere, "origin", 0},
		{"nobody has", head(status(404)), head(status(404)), "", fault.NotFound},
		{"denied", head(status(404)), head(status(403)), "", fault.Denied},
	} {
		mirror, origin := newScript(t, tc.mirror), newScript(t, tc.origin)
		from, err := withMirrors(t, Options{}, "", origin, mirror.URL).Locate(t.Context(), origin.ref(t, ""), descriptor(noise))
		switch {
		case tc.kind != 0:
			wantKind(t, err, tc.kind, "look for blob "+descriptor(noise).Digest.String())
		case err != nil || from != map[string]string{"mirror": mirror.ref(t, "").Host(), "origin": origin.ref(t, "").Host()}[tc.want]:
			t.Errorf("%s: from %s, %v", tc.name, from, err)
		}
	}
	bad := descriptor(noise)
	bad.Digest = "sha256:../x"
	_, err := newClient(t, Options{}).Locate(t.Context(), parse(t, "reg.io/app"), bad)
	wantKind(t, err, fault.Corrupt)
}
