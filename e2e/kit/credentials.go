//go:build e2e

package kit

import (
	"encoding/base64"
	"strings"
	"testing"
)

// DockerLogin is a config.json as docker login writes it without a helper.
func DockerLogin(host, name, password string) string {
	secret := base64.StdEncoding.EncodeToString([]byte(name + ":" + password))
	return `{"auths":{"` + host + `":{"auth":"` + secret + `"}}}`
}

// ExpectNoSecret checks that what was said does not have the password, plain
// or as it is sent.
func ExpectNoSecret(t *testing.T, r Result, password string) {
	t.Helper()
	sent := base64.StdEncoding.EncodeToString([]byte(RegistryUser + ":" + password))
	for _, secret := range []string{password, sent} {
		if got := r.Stdout + r.Stderr; strings.Contains(got, secret) {
			t.Errorf("the output has the secret %q\n%s", secret, got)
		}
	}
}
