//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestCredentials pulls from a registry that asks for a password.
func TestCredentials(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{password: true})
	im := makeImage(t, imageSpec{layers: []layer{smallLayer(t, "a", "a")}})
	ref := reg.push(t, "img:tag", im)
	right := dockerLogin(reg.addr, registryUser, registryPassword)

	t.Run("FromDockersConfig", func(t *testing.T) {
		u := newUser(t)
		writeFile(t, filepath.Join(u.home, ".docker/config.json"), right)
		u.fastpull(t, "--store", t.TempDir(), ref).expect(t, 0, im.digest.String())
	})
	t.Run("FromDOCKER_CONFIG", func(t *testing.T) {
		folder := t.TempDir()
		writeFile(t, filepath.Join(folder, "config.json"), right)
		newUser(t, "DOCKER_CONFIG="+folder).fastpull(t, "--store", t.TempDir(), ref).expect(t, 0, im.digest.String())
	})
	t.Run("Wrong", func(t *testing.T) {
		u := newUser(t)
		writeFile(t, filepath.Join(u.home, ".docker/config.json"), dockerLogin(reg.addr, registryUser, "guess"))
		r := u.fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref).expect(t, 4, reg.addr, "docker login")
		expectNoSecret(t, r, "guess")
	})
	t.Run("None", func(t *testing.T) {
		fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref).expect(t, 4, reg.addr, "docker login")
	})
	t.Run("ForAnotherHost", func(t *testing.T) {
		u := newUser(t)
		writeFile(t, filepath.Join(u.home, ".docker/config.json"), dockerLogin("registry.example", registryUser, registryPassword))
		u.fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref).expect(t, 4, "docker login")
	})
}

// TestTLS pulls from a registry whose certificate only its own authority knows,
// and which is not on the loopback for all that its client can tell.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	reg := startRegistry(t, registryOptions{tls: ca})
	im := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 1<<20, 1)}})
	reg.push(t, "img:tag", im)
	ref := tlsHost + ":5000/img:tag"
	tunnel := startTunnel(t, reg.addr)
	pull := func(t *testing.T, args ...string) result {
		t.Helper()
		u := newUser(t, "HTTPS_PROXY="+tunnel, "HTTP_PROXY="+tunnel)
		return u.fastpull(t, append(args, "--store", filepath.Join(t.TempDir(), "s"), ref)...)
	}

	t.Run("WithItsCA", func(t *testing.T) {
		pull(t, "--ca", ca.file).expect(t, 0, im.digest.String())
	})
	t.Run("WithoutVerification", func(t *testing.T) {
		pull(t, "--insecure-skip-tls-verify").expect(t, 0, im.digest.String())
	})
	t.Run("Unknown", func(t *testing.T) {
		pull(t).expect(t, 1, "certificate", "--ca")
	})
	t.Run("AnotherCA", func(t *testing.T) {
		pull(t, "--ca", newAuthority(t).file).expect(t, 1, "certificate")
	})
	t.Run("NoSuchCA", func(t *testing.T) {
		missing := filepath.Join(t.TempDir(), "none.crt")
		if r := pull(t, "--ca", missing); r.code == 0 || !strings.Contains(r.stderr, missing) {
			t.Errorf("a CA file that does not exist: exit code %d\n%s", r.code, r.stderr)
		}
	})
	t.Run("PlainHTTP", func(t *testing.T) {
		if r := pull(t, "--plain-http"); r.code == 0 {
			t.Error("--plain-http pulled from a registry that speaks TLS only")
		}
	})
}
