package registry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// refusal checks that next refuses a request, and that it is for one byte or was refused.
func refusal(t *testing.T, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		to := httptest.NewRecorder()
		next(to, r)
		if to.Code < 400 {
			t.Errorf("a blob is asked for by %s", r.Method)
		}
		w.WriteHeader(to.Code)
	}
}

func TestLocate(t *testing.T) {
	head := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodHead {
				// Only to see if it was the method that was refused, and no more than a byte.
				next = refusal(t, next)
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
