package registry

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
)

func TestHasCredentials(t *testing.T) {
	ref := parse(t, example+"/app")
	found, where, err := newClient(t, Options{}).HasCredentials(t.Context(), ref)
	if found || where != "" || err != nil {
		t.Errorf("none: %t, %q, %v", found, where, err)
	}
	file := write(t, "config.json", dockerAuth(example))
	for _, tc := range []struct {
		keys  authn.Keychain
		found bool
		where string
	}{
		{files{{path: file}}, true, file},
		{files{{path: write(t, "config.json", dockerAuth("other.org"))}}, false, ""},
	} {
		found, where, err := newClient(t, Options{Keychain: tc.keys}).HasCredentials(t.Context(), ref)
		if found != tc.found || where != tc.where || err != nil {
			t.Errorf("%t, %q, %v", found, where, err)
		}
	}
	_, _, err = newClient(t, Options{Keychain: files{{path: file + ".none", asked: true}}}).HasCredentials(t.Context(), ref)
	if err == nil {
		t.Error("a file that was asked for is not there, and nothing is said")
	}
}

func dockerAuth(host string) string { return `{"auths":{"` + host + `":{"auth":"YWxpOm9wZW4="}}}` }
