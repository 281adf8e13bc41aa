package testkit

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// Unproxied takes the proxies out of the environment of this process, for the TestMain of
// packages whose tests ask servers on the loopback by other names.
func Unproxied() {
	for _, env := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		os.Unsetenv(env)
	}
}

// TempFile writes a file into a folder of its own, and returns its path.
func TempFile(t testing.TB, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// QuietServer starts a server on the loopback that runs until the end of the test, and does
// not log the connections that break.
func QuietServer(t testing.TB, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// WantKind fails the test unless err is an error of a kind, and has all these words in it
// or in its hint.
func WantKind(t testing.TB, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if err == nil || fault.KindOf(err) != kind {
		t.Errorf("kind of %v is %d, want %d", err, fault.KindOf(err), kind)
	}
	all := fmt.Sprint(err) + "\n" + fault.HintOf(err)
	for _, word := range words {
		if !strings.Contains(all, word) {
			t.Errorf("%q is missing in: %s", word, all)
		}
	}
}
