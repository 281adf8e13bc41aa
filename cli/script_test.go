package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fastpull/fastpull/internal/apart"
	"github.com/fastpull/fastpull/internal/need"
	"github.com/fastpull/fastpull/internal/testkit"
)

func TestMain(m *testing.M) {
	tests := func() int {
		testscript.Main(m, map[string]func(){"fastpull": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(Main(ctx, os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		}})
		return 0 // which is not reached
	}
	if filepath.Base(os.Args[0]) == "fastpull" { // a test has started it
		tests()
	}
	os.Exit(need.RootMain("make stores and mount them", func() int { return apart.Main(tests) }))
}

// TestScripts has the race detector look at a pull with all of its flags.
func TestScripts(t *testing.T) { runScripts(t, "testdata/pull.txt") }

// TestUnracedScripts runs all scripts. They start the command hundreds of times, which takes
// the detector longer than the work. It sees the same goroutines in the tests of pull.
func TestUnracedScripts(t *testing.T) {
	need.NoDetector(t)
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	runScripts(t, files...)
}

// runScripts runs the command as a user would. In the scripts, $REG is a registry with the
// images base:1 (one layer), app:1 (base's and one more), other:1 (base's, for another
// processor), and many with three tags, $PRIVATE is the same for user ali with the password
// "open sesame"; "exits N" runs a command and wants that exit code.
func runScripts(t *testing.T, files ...string) {
	host := startRegistry(t)
	private := startPrivate(t, host)
	testscript.Run(t, testscript.Params{
		Files: files,
		Setup: func(env *testscript.Env) error {
			conf := env.WorkDir + "/storage.conf" // of a Podman that has no images
			text := fmt.Sprintf("[storage]\ngraphroot = %q\nrunroot = %q\n", env.WorkDir+"/podman", env.WorkDir+"/podman-run")
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				return err
			}
			env.Setenv("REG", host)
			env.Setenv("PRIVATE", private)
			env.Setenv("DOCKER_HOST", "unix://"+env.WorkDir+"/no-engine.sock")
			env.Setenv("CONTAINERS_STORAGE_CONF", conf)
			env.Setenv("DOCKER_CONFIG", env.WorkDir)
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/cache")
			env.Setenv("ESC", "\x1b")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if code != want {
		ts.Fatalf("%s exits with %d, want %d", strings.Join(args[1:], " "), code, want)
	}
}

// created is when all test images were made.
var created = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func startRegistry(t *testing.T) (host string) {
	t.Helper()
	host = testkit.Registry(t)
	base, top := layerOf(t, "base", strings.Repeat("base ", 400)), layerOf(t, "top", "top")
	pushImage(t, host+"/base:1", runtime.GOARCH, base)
	pushImage(t, host+"/app:1", runtime.GOARCH, base, top)
	for _, tag := range []string{"1", "2", "2-rc"} {
		pushImage(t, host+"/many:"+tag, runtime.GOARCH, base, layerOf(t, "tag", tag))
	}
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	pushImage(t, host+"/other:1", other, base)
	return host
}

// startPrivate puts a password before a registry.
func startPrivate(t *testing.T, host string) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	return testkit.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ali" || password != "open sesame" {
			w.Header().Set("WWW-Authenticate", `Basic realm="private"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
}

func layerOf(t *testing.T, name, content string) v1.Layer {
	t.Helper()
	blob := testkit.Compress(func(w io.Writer) (*gzip.Writer, error) { return gzip.NewWriter(w), nil }, testkit.Tar(testkit.Text(name, content)))
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(blob)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func pushImage(t *testing.T, as, arch string, layers ...v1.Layer) {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	img = testkit.Configured(t, img, func(c *v1.ConfigFile) {
		c.OS, c.Architecture, c.Created = "linux", arch, v1.Time{Time: created}
	})
	testkit.Put(t, as, img)
}
