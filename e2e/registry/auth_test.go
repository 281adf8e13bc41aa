//go:build e2e

package registry

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// TestCredentials pulls from a registry that asks for a password.
func TestCredentials(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{Password: true})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "a", "a")}})
	ref := reg.Push(t, "img:tag", im)
	right := kit.DockerLogin(reg.Addr, kit.RegistryUser, kit.RegistryPassword)

	t.Run("FromDockersConfig", func(t *testing.T) {
		u := kit.NewUser(t)
		kit.WriteFile(t, filepath.Join(u.Home, ".docker/config.json"), right)
		u.Fastpull(t, "--store", t.TempDir(), ref).Expect(t, 0, im.Digest.String())
	})
	t.Run("FromDOCKER_CONFIG", func(t *testing.T) {
		folder := t.TempDir()
		kit.WriteFile(t, filepath.Join(folder, "config.json"), right)
		kit.NewUser(t, "DOCKER_CONFIG="+folder).Fastpull(t, "--store", t.TempDir(), ref).Expect(t, 0, im.Digest.String())
	})
	t.Run("Wrong", func(t *testing.T) {
		u := kit.NewUser(t)
		kit.WriteFile(t, filepath.Join(u.Home, ".docker/config.json"), kit.DockerLogin(reg.Addr, kit.RegistryUser, "guess"))
		r := u.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref).Expect(t, 4, reg.Addr, "docker login")
		kit.ExpectNoSecret(t, r, "guess")
	})
	t.Run("None", func(t *testing.T) {
		kit.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref).Expect(t, 4, reg.Addr, "docker login")
	})
	t.Run("ForAnotherHost", func(t *testing.T) {
		u := kit.NewUser(t)
		kit.WriteFile(t, filepath.Join(u.Home, ".docker/config.json"), kit.DockerLogin("registry.example", kit.RegistryUser, kit.RegistryPassword))
		u.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref).Expect(t, 4, "docker login")
	})
}

// TestTLS pulls from a registry whose certificate only its own authority knows,
// and which is not on the loopback for all that its client can tell.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := kit.NewAuthority(t)
	reg := kit.StartRegistry(t, kit.RegistryOptions{Tls: ca})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 1<<20, 1)}})
	reg.Push(t, "img:tag", im)
	ref := kit.TlsHost + ":5000/img:tag"
	tunnel := kit.StartTunnel(t, reg.Addr)
	pull := func(t *testing.T, args ...string) kit.Result {
		t.Helper()
		u := kit.NewUser(t, "HTTPS_PROXY="+tunnel, "HTTP_PROXY="+tunnel)
		return u.Fastpull(t, append(args, "--store", filepath.Join(t.TempDir(), "s"), ref)...)
	}

	t.Run("WithItsCA", func(t *testing.T) {
		pull(t, "--ca", ca.File).Expect(t, 0, im.Digest.String())
	})
	t.Run("WithoutVerification", func(t *testing.T) {
		pull(t, "--insecure-skip-tls-verify").Expect(t, 0, im.Digest.String())
	})
	t.Run("Unknown", func(t *testing.T) {
		pull(t).Expect(t, 1, "certificate", "--ca")
	})
	t.Run("AnotherCA", func(t *testing.T) {
		pull(t, "--ca", kit.NewAuthority(t).File).Expect(t, 1, "certificate")
	})
	t.Run("NoSuchCA", func(t *testing.T) {
		missing := filepath.Join(t.TempDir(), "none.crt")
		if r := pull(t, "--ca", missing); r.Code == 0 || !strings.Contains(r.Stderr, missing) {
			t.Errorf("a CA file that does not exist: exit code %d\n%s", r.Code, r.Stderr)
		}
	})
	t.Run("PlainHTTP", func(t *testing.T) {
		if r := pull(t, "--plain-http"); r.Code == 0 {
			t.Error("--plain-http pulled from a registry that speaks TLS only")
		}
	})
}
