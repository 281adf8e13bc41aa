//go:build e2e

package e2e

import (
	"encoding/base64"
	"strings"
	"testing"
)

// dockerLogin is a config.json as docker login writes it without a helper.
func dockerLogin(host, name, password string) string {
	secret := base64.StdEncoding.EncodeToString([]byte(name + ":" + password))
	return `{"auths":{"` + host + `":{"auth":"` + secret + `"}}}`
}

// expectNoSecret checks that what was said does not have the password, plain
// or as it is sent.
func expectNoSecret(t *testing.T, r result, password string) {
	t.Helper()
	sent := base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + password))
	for _, secret := range []string{password, sent} {
		if got := r.stdout + r.stderr; strings.Contains(got, secret) {
			t.Errorf("the output has the secret %q\n%s", secret, got)
		}
	}
}
