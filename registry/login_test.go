package registry

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

func TestParseAccount(t *testing.T) {
	for s, want := range map[string]string{
		"": "https://index.docker.io/v1/", "docker.io": "https://index.docker.io/v1/",
		"https://index.docker.io/v1/": "https://index.docker.io/v1/", "registry-1.docker.io": "https://index.docker.io/v1/",
		"reg.io:5000": "reg.io:5000", "https://reg.io/": "reg.io", "localhost": "localhost",
	} {
		if a, err := ParseAccount(s, "u"); err != nil || a.key() != want {
			t.Errorf("%q: %q, %v; want %q", s, a.key(), err, want)
		}
	}
	for _, s := range []string{"reg.io/app", "reg io", "../x", "u@reg.io"} {
		_, err := ParseAccount(s, "u")
		wantKind(t, err, fault.Usage, s)
	}
}

func TestLogin(t *testing.T) {
	basic := newScript(t, status(500))
	basic.login = func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != "u" || p != "p" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	token := newTokens(t, 100, status(500))
	open := token.login
	token.login = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" || r.Header.Get("Authorization") == "" {
			open(w, r)
		}
	}
	anyone := newScript(t, status(500))
	broken := newScript(t, status(500))
	broken.login = status(http.StatusBadGateway)
	for _, tc := range []struct {
		name     string
		registry *script
		password string
		kind     fault.Kind
	}{
		{"basic", basic, "p", 0}, {"basic, wrong", basic, "guess", fault.Denied},
		{"token", token.script, "p", 0}, {"token, wrong", token.script, "guess", fault.Denied},
		{"anyone", anyone, "guess", 0}, {"broken", broken, "p", fault.Failed},
	} {
		host := tc.registry.ref(t, "").Host()
		// The same behind hosts.toml, where the registry is told for which name it is asked.
		behind := hostsDir(t, map[string]string{"reg.io": "server = \"" + tc.registry.URL + "\"\n[host.\"" + gone() + "\"]"})
		for name, c := range map[string]*Client{host: newClient(t, Options{Retries: 1}), "reg.io": newClient(t, Options{Retries: 1, HostsDirs: []string{behind}})} {
			a, err := ParseAccount(name, "u")
			if err != nil {
				t.Fatal(err)
			}
			err = c.Login(t.Context(), a, tc.password)
			if tc.kind == 0 && err != nil {
				t.Errorf("%s, %s: %v", tc.name, name, err)
			}
			if tc.kind != 0 {
				wantKind(t, err, tc.kind, "log in to "+name)
				if strings.Contains(err.Error(), "guess") {
					t.Errorf("the password is in: %v", err)
				}
			}
		}
	}
}

func TestSaveAndForget(t *testing.T) {
	const other = `{"zzz": {"a": 12345678901234567890}, "HttpHeaders": {"X": "y"}, "auths": {"other.io": {"auth": "b2s6b2s="}, "https://reg.io/v1/": {"auth": "b2s6b2s="}, "reg.io/ns": {"auth": "b2s6b2s="}}}`
	dir := home(t, map[string]string{"real.json": other})
	file := filepath.Join(dir, ".docker/config.json")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700), os.Symlink("../real.json", file)); err != nil {
		t.Fatal(err)
	}
	a, err := ParseAccount("reg.io", "u")
	if err != nil {
		t.Fatal(err)
	}
	where, err := a.Save(t.Context(), "p:ä")
	if err != nil || where != filepath.Join(dir, "real.json") {
		t.Fatalf("kept in %s, %v", where, err)
	}
	if got, err := userFor(t, "reg.io/app"); got != "u" || err != nil {
		t.Errorf("found %q, %v", got, err)
	}
	if st, err := os.Lstat(file); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the symlink: %v, %v", st, err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", st.Mode(), err)
	}
	want := map[string]any{
		"zzz": map[string]any{"a": json.Number("12345678901234567890")}, "HttpHeaders": map[string]any{"X": "y"},
		"auths": map[string]any{
			"other.io": map[string]any{"auth": "b2s6b2s="}, "reg.io/ns": map[string]any{"auth": "b2s6b2s="},
			"reg.io": map[string]any{"auth": "dTpwOsOk"},
		},
	}
	if got := readJSON(t, file); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}

	if found, err := a.Forget(t.Context()); !found || err != nil {
		t.Errorf("forget: %v, %v", found, err)
	}
	delete(want["auths"].(map[string]any), "reg.io")
	if got := readJSON(t, file); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if found, err := a.Forget(t.Context()); found || err != nil {
		t.Errorf("forget again: %v, %v", found, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("left: %v, %v", list, err)
	}
}

// TestForgetPodmans forgets what podman login has left for Docker Hub.
func TestForgetPodmans(t *testing.T) {
	dir := home(t, map[string]string{"auth.json": `{"auths": {"docker.io": {"auth": "dTpw"}, "docker.io.example": {"auth": "dTpw"}}}`})
	a, err := ParseAccount("docker.io", "")
	if err != nil {
		t.Fatal(err)
	}
	a.File = filepath.Join(dir, "auth.json")
	if found, err := a.Forget(t.Context()); !found || err != nil {
		t.Errorf("found: %v, %v", found, err)
	}
	want := map[string]any{"auths": map[string]any{"docker.io.example": map[string]any{"auth": "dTpw"}}}
	if got := readJSON(t, a.File); !reflect.DeepEqual(got, want) {
		t.Errorf("left: %v", got)
	}
}

func readJSON(t *testing.T, file string) (v map[string]any) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The first login of a user, and files that must not be written over.
func TestSaveWhere(t *testing.T) {
	dir := home(t, nil)
	a, err := ParseAccount("", "u")
	if err != nil {
		t.Fatal(err)
	}
	if found, err := a.Forget(t.Context()); found || err != nil {
		t.Errorf("forget: %v, %v", found, err)
	}
	if _, err := a.Save(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	if got, err := userFor(t, "ubuntu"); got != "u" || err != nil {
		t.Errorf("found %q, %v", got, err)
	}
	if st, err := os.Stat(filepath.Join(dir, ".docker")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", st.Mode(), err)
	}
	for _, bad := range []string{"{", "[]", `{"auths": 7}`} {
		file := filepath.Join(home(t, map[string]string{".docker/config.json": bad}), ".docker/config.json")
		_, err := a.Save(t.Context(), "p")
		wantKind(t, err, fault.Failed, file, "left as it is")
		if got, _ := os.ReadFile(file); string(got) != bad {
			t.Errorf("%s became %s", bad, got)
		}
	}
}

func TestSaveWithHelper(t *testing.T) {
	dir := home(t, map[string]string{"bin/docker-credential-test": helper, ".docker/config.json": `{"credsStore": "test"}`})
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	a, err := ParseAccount("reg.io", "u")
	if err != nil {
		t.Fatal(err)
	}
	if where, err := a.Save(t.Context(), "secret"); where != "docker-credential-test" || err != nil {
		t.Fatalf("kept in %s, %v", where, err)
	}
	if got := readJSON(t, filepath.Join(dir, "bin/stored")); !reflect.DeepEqual(got, map[string]any{"ServerURL": "reg.io", "Username": "u", "Secret": "secret"}) {
		t.Errorf("the helper got %v", got)
	}
	conf := readJSON(t, filepath.Join(dir, ".docker/config.json"))
	if !reflect.DeepEqual(conf, map[string]any{"credsStore": "test", "auths": map[string]any{"reg.io": map[string]any{}}}) {
		t.Errorf("config.json: %v", conf)
	}
	if found, err := a.Forget(t.Context()); !found || err != nil {
		t.Errorf("forget: %v, %v", found, err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "bin/erased")); string(got) != "reg.io" {
		t.Errorf("the helper erased %q", got)
	}

	for script, words := range map[string]string{
		"#!/bin/sh\necho 'the keyring is locked'; exit 1": "the keyring is locked",
		"": "docker-credential-gone",
	} {
		name := "test"
		if script == "" {
			name = "gone"
		}
		dir := home(t, map[string]string{"bin/docker-credential-test": script, ".docker/config.json": `{"credHelpers": {"reg.io": "` + name + `"}}`})
		t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
		if _, err := a.Save(t.Context(), "secret"); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", words, err)
		}
		if conf := readJSON(t, filepath.Join(dir, ".docker/config.json")); conf["auths"] != nil {
			t.Errorf("config.json: %v", conf)
		}
	}
}
