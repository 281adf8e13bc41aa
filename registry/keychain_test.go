package registry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/need"
)

// auths is a file that has a user for each registry.
func auths(users map[string]string) string {
	var list []string
	for host, user := range users {
		list = append(list, fmt.Sprintf("%q: {\"auth\": %q}", host, base64.StdEncoding.EncodeToString([]byte(user+":p"))))
	}
	return `{"auths": {` + strings.Join(list, ", ") + `}}`
}

// home gives the test a home of its own, with these files in it.
func home(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	for _, env := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_AUTH_CONFIG"} {
		t.Setenv(env, "")
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// userFor is the user that the keychain finds for an image, "" for none.
func userFor(t *testing.T, image string) (string, error) {
	t.Helper()
	auth, err := NewKeychain("").Resolve(parse(t, image).repo)
	if err != nil {
		return "", err
	}
	conf, err := authn.Authorization(t.Context(), auth)
	if err != nil {
		t.Fatal(err)
	}
	if conf.Username == "" {
		return conf.IdentityToken, nil
	}
	return conf.Username, nil
}

func TestKeychain(t *testing.T) {
	docker := auths(map[string]string{
		"reg.io": "docker", "https://old.io/v1/": "old", "https://index.docker.io/v1/": "hub",
	})
	podman := auths(map[string]string{
		"reg.io": "podman", "other.io": "podman", "ns.io": "whole", "ns.io/a": "part", "ns.io/a/b": "repo",
	})
	const dockerFile, podmanFile = ".docker/config.json", ".config/containers/auth.json"
	both := map[string]string{dockerFile: docker, podmanFile: podman}
	for _, tc := range []struct {
		name, image string
		files       map[string]string
		env         string // NAME=file under home
		want        string
	}{
		{"none", "reg.io/app", nil, "", ""},
		{"Docker's", "reg.io/app", both, "", "docker"},
		{"an address of old", "old.io/app", both, "", "old"},
		{"Docker Hub", "ubuntu", both, "", "hub"},
		{"another port", "reg.io:5000/app", both, "", ""},
		{"a part of the name", "eg.io/app", both, "", ""},
		{"Podman's, where Docker has none", "other.io/app", both, "", "podman"},
		{"Podman's alone", "reg.io/app", map[string]string{podmanFile: podman}, "", "podman"},
		{"for a repository", "ns.io/a/b", both, "", "repo"},
		{"for a part of the path", "ns.io/a/c", both, "", "part"},
		{"not for the beginning of a word", "ns.io/ab", both, "", "whole"},
		{"Podman's Docker Hub", "ubuntu", map[string]string{podmanFile: auths(map[string]string{"docker.io": "hub"})}, "", "hub"},
		{"a part of Docker Hub", "docker.io/me/app", map[string]string{podmanFile: auths(map[string]string{"docker.io/me": "me"})}, "", "me"},
		{"DOCKER_CONFIG", "reg.io/app", map[string]string{dockerFile: docker, "other/config.json": auths(map[string]string{"reg.io": "other"})}, "DOCKER_CONFIG=other", "other"},
		{"XDG_RUNTIME_DIR", "reg.io/app", map[string]string{"run/containers/auth.json": auths(map[string]string{"reg.io": "run"}), podmanFile: podman}, "XDG_RUNTIME_DIR=run", "run"},
		{"REGISTRY_AUTH_FILE", "reg.io/app", map[string]string{dockerFile: docker, "mine.json": auths(map[string]string{"reg.io": "mine"})}, "REGISTRY_AUTH_FILE=mine.json", "mine"},
		{"REGISTRY_AUTH_FILE without it", "reg.io/app", map[string]string{dockerFile: docker, "mine.json": "{}"}, "REGISTRY_AUTH_FILE=mine.json", "docker"},
		{"a damaged file beside a good one", "other.io/app", map[string]string{dockerFile: "{", podmanFile: podman}, "", "podman"},
		{"an identity token", "reg.io/app", map[string]string{dockerFile: `{"auths": {"reg.io": {"identitytoken": "t"}}}`}, "", "t"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := home(t, tc.files)
			if key, file, ok := strings.Cut(tc.env, "="); ok {
				t.Setenv(key, filepath.Join(dir, file))
			}
			if got, err := userFor(t, tc.image); err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func TestKeychainErrors(t *testing.T) {
	dir := home(t, map[string]string{".docker/config.json": "{"})
	if _, err := userFor(t, "reg.io/app"); err == nil || !strings.Contains(err.Error(), ".docker/config.json") {
		t.Errorf("damaged: %v", err)
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("REGISTRY_AUTH_FILE", filepath.Join(dir, "none"))
	if _, err := userFor(t, "reg.io/app"); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "none")) {
		t.Errorf("missing: %v", err)
	}
}

// helper is a credential helper that keeps what it is told in files beside it.
const helper = `#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$1" >> calls
case "$1" in
store) cat > stored ;;
get) read -r server; if [ "$server" = reg.io ]; then echo '{"ServerURL":"reg.io","Username":"helped","Secret":"p"}'; else echo 'credentials not found in native keychain'; exit 1; fi ;;
erase) cat > erased ;;
esac
`

func TestKeychainHelpers(t *testing.T) {
	for name, conf := range map[string]string{
		"credsStore":  `{"credsStore": "test"}`,
		"credHelpers": `{"credHelpers": {"reg.io": "test"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := home(t, map[string]string{"bin/docker-credential-test": helper, ".docker/config.json": conf})
			t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
			if got, err := userFor(t, "reg.io/app"); err != nil || got != "helped" {
				t.Errorf("got %q, %v", got, err)
			}
			if got, err := userFor(t, "other.io/app"); err != nil || got != "" {
				t.Errorf("another registry: got %q, %v", got, err)
			}
			if calls, _ := os.ReadFile(filepath.Join(dir, "bin/calls")); name == "credHelpers" && string(calls) != "get\n" {
				t.Errorf("calls: %q", calls)
			}
		})
	}
	home(t, map[string]string{".docker/config.json": `{"credsStore": "none-such"}`})
	if _, err := userFor(t, "reg.io/app"); err == nil || !strings.Contains(err.Error(), "docker-credential-none-such") {
		t.Errorf("a helper that is not there: %v", err)
	}
}

// A password that an older login has left is used where the helper is gone, and the file
// that is named is the only one.
func TestKeychainWithoutHelper(t *testing.T) {
	const auths = `"auths": {"reg.io": {"auth": "dTpw"}}`
	dir := home(t, map[string]string{
		".docker/config.json": `{"credsStore": "none-such", ` + auths + `}`,
		"other.json":          `{"auths": {"other.io": {"auth": "bzpw"}}}`,
	})
	var notes []string
	c := newClient(t, Options{Keychain: NewKeychain(""), Note: func(s string) { notes = append(notes, s) }})
	creds := c.credentials(t.Context(), parse(t, "reg.io/app").repo)
	if !creds.found || creds.Username != "u" || creds.Password != "p" || len(notes) != 1 || !strings.Contains(notes[0], "docker-credential-none-such") {
		t.Errorf("%+v, notes %q", creds, notes)
	}
	c = newClient(t, Options{AuthFile: filepath.Join(dir, "other.json"), Keychain: NewKeychain(filepath.Join(dir, "other.json"))})
	if creds := c.credentials(t.Context(), parse(t, "reg.io/app").repo); creds.found || creds.err != nil {
		t.Errorf("from another file: %+v", creds)
	}
	if creds := c.credentials(t.Context(), parse(t, "other.io/app").repo); creds.Username != "o" {
		t.Errorf("from the file: %+v", creds)
	}
	// A pipe can be read once, and has the credentials of all registries.
	fifo := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	go os.WriteFile(fifo, []byte(`{"auths": {"a.io": {"auth": "YTpw"}, "b.io": {"auth": "Yjpw"}}}`), 0)
	daemon := write(t, "daemon.json", "")
	c, err := New(Options{AuthFile: fifo, DaemonJSON: daemon})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if creds := c.credentials(t.Context(), parse(t, name+".io/app").repo); creds.Username != name {
			t.Errorf("of %s.io from a pipe: %+v", name, creds)
		}
	}
	_, err = New(Options{AuthFile: filepath.Join(dir, "none.json")})
	wantKind(t, err, fault.NotFound, "none.json")
}

func TestOthersLogin(t *testing.T) {
	need.Root(t, "be another user's sudo")
	dir := t.TempDir()
	home(t, map[string]string{})
	real := homeOf
	homeOf = func(name string) (string, error) { return filepath.Join(dir, name), nil }
	t.Cleanup(func() { homeOf = real })
	file := filepath.Join(dir, "ali", ".docker", "config.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{"ali": file, "bob": "", "": ""} {
		t.Setenv("SUDO_USER", user)
		if got := othersLogin(); got != want {
			t.Errorf("%s: %q", user, got)
		}
	}
	t.Setenv("SUDO_USER", "ali")
	k := newTokens(t, 100, status(403))
	_, err := newClient(t, Options{}).Manifest(t.Context(), k.ref(t, ""))
	wantKind(t, err, fault.Denied, "--authfile "+file)
	t.Setenv("DOCKER_CONFIG", filepath.Dir(file))
	if got := othersLogin(); got != "" {
		t.Errorf("it is looked for: %q", got)
	}
}

// TestWithoutHome: in a service without HOME, credentials are not those of the working
// directory.
func TestWithoutHome(t *testing.T) {
	for _, value := range []string{"", "."} {
		t.Setenv("HOME", value)
		t.Setenv("DOCKER_CONFIG", "")
		if file := dockerConfigFile(); file != "" && !filepath.IsAbs(file) {
			t.Errorf("HOME=%s: %s", value, file)
		}
	}
}
