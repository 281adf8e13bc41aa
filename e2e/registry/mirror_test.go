//go:build e2e

package registry

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

// mirrors writes a hosts.toml that puts mirrors before a registry, and returns
// the folder for --hosts-dir.
func mirrors(t *testing.T, registry string, addrs ...string) string {
	t.Helper()
	dir, toml := t.TempDir(), ""
	for _, addr := range addrs {
		toml += fmt.Sprintf("[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", addr)
	}
	kit.WriteFile(t, filepath.Join(dir, registry, "hosts.toml"), toml)
	return dir
}

// TestMirror pulls by way of mirrors that hosts.toml names.
func TestMirror(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	origin := kit.StartRegistry(t, kit.RegistryOptions{})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, size, 1)}})
	ref := origin.Push(t, "img:tag", im)
	pull := func(t *testing.T, hosts, ref string) kit.Result {
		t.Helper()
		return kit.Fastpull(t, "--hosts-dir", hosts, "--store", filepath.Join(t.TempDir(), "s"), ref)
	}

	// The registry itself cannot be reached, so that all comes from the mirror.
	t.Run("PullThrough", func(t *testing.T) {
		mirror := kit.StartRegistry(t, kit.RegistryOptions{Of: origin})
		hosts := mirrors(t, "reg.invalid:5000", mirror.Addr)
		pull(t, hosts, "reg.invalid:5000/img:tag").Expect(t, 0, im.Digest.String())
		if _, bytes := mirror.Traffic(t).Blob(im.Layers[0].Digest); bytes < size {
			t.Errorf("the mirror sent %d bytes of the layer", bytes)
		}
	})
	t.Run("Plain", func(t *testing.T) {
		mirror := kit.StartRegistry(t, kit.RegistryOptions{})
		mirror.Push(t, "img:tag", im)
		origin.Traffic(t)
		pull(t, mirrors(t, origin.Addr, mirror.Addr), ref).Expect(t, 0, im.Digest.String())
		if got := origin.Traffic(t); len(got) != 0 {
			t.Errorf("the registry was asked for %v", got)
		}
	})
	t.Run("HasNothing", func(t *testing.T) {
		mirror := kit.StartRegistry(t, kit.RegistryOptions{})
		pull(t, mirrors(t, origin.Addr, mirror.Addr), ref).Expect(t, 0, im.Digest.String())
	})
	t.Run("IsNotThere", func(t *testing.T) {
		pull(t, mirrors(t, origin.Addr, kit.FreePort(t)), ref).Expect(t, 0, im.Digest.String())
	})
	t.Run("DryRun", func(t *testing.T) {
		mirror := kit.StartRegistry(t, kit.RegistryOptions{})
		mirror.Push(t, "img:tag", im)
		kit.Fastpull(t, "--dry-run", "--hosts-dir", mirrors(t, origin.Addr, mirror.Addr), "--store", filepath.Join(t.TempDir(), "s"), ref).
			Expect(t, 0, "known to "+mirror.Addr, "from "+mirror.Addr)
		if gets, _ := mirror.Traffic(t).Blob(im.Layers[0].Digest); gets != 0 {
			t.Errorf("a dry run fetched the layer")
		}
	})
}

// TestMirrorDies kills a mirror in the midst of a layer: the registry gives the
// rest of it.
func TestMirrorDies(t *testing.T) {
	t.Parallel()
	const size, sent = 24 << 20, 8 << 20
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, size, 2)}})
	origin, behind := kit.StartRegistry(t, kit.RegistryOptions{}), kit.StartRegistry(t, kit.RegistryOptions{})
	ref := origin.Push(t, "img:tag", im)
	behind.Push(t, "img:tag", im)
	mirror := kit.StartGate(t, behind)
	mirror.Arm(sent)

	run := kit.NewUser(t).Start(t, "--hosts-dir", mirrors(t, origin.Addr, mirror.Addr), "--store", filepath.Join(t.TempDir(), "s"), ref)
	mirror.WaitReached(t, &run.Err)
	origin.Traffic(t)
	mirror.Die()
	run.Wait(t).Expect(t, 0, im.Digest.String())
	_, bytes := origin.Traffic(t).Blob(im.Layers[0].Digest)
	if bytes == 0 || bytes > size-sent/2 {
		t.Errorf("the registry sent %d bytes of a layer of %d, of which the mirror had sent %d", bytes, size, sent)
	}
}

// TestNoProxy: a host that NO_PROXY names is not asked for by the proxy.
func TestNoProxy(t *testing.T) {
	ca := kit.NewAuthority(t)
	reg := kit.StartRegistry(t, kit.RegistryOptions{Tls: ca})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "a", "a")}})
	reg.Push(t, "img:tag", im)
	ref := kit.TlsHost + ":5000/img:tag"
	proxy := "HTTPS_PROXY=" + kit.StartTunnel(t, reg.Addr)
	for _, tc := range []struct {
		except string
		code   int
	}{{"other.test", 0}, {kit.TlsHost, 1}, {".test", 1}} {
		u := kit.NewUser(t, proxy, "NO_PROXY="+tc.except)
		r := u.Fastpull(t, "--ca", ca.File, "--store", filepath.Join(t.TempDir(), "s"), ref).Expect(t, tc.code)
		if tc.code != 0 {
			r.Expect(t, tc.code, "lookup "+kit.TlsHost)
		}
	}
	u := kit.NewUser(t, "HTTPS_PROXY=http://"+kit.FreePort(t))
	u.Fastpull(t, "--ca", ca.File, "--store", filepath.Join(t.TempDir(), "s"), ref).Expect(t, 1, "the proxy does not answer")
}

// TestLogin logs in to a registry with a password, pulls, and logs out.
func TestLogin(t *testing.T) {
	reg := kit.StartRegistry(t, kit.RegistryOptions{Password: true})
	im := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.SmallLayer(t, "a", "a")}})
	ref := reg.Push(t, "img:tag", im)
	pull := func(u *kit.User) kit.Result { return u.Fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref) }

	u := kit.NewUser(t)
	pull(u).Expect(t, 4, "fastpull login "+reg.Addr)
	u.Stdin = "guess\n"
	r := u.Fastpull(t, "login", "-u", kit.RegistryUser, "--password-stdin", reg.Addr).Expect(t, 4, "does not take")
	kit.ExpectNoSecret(t, r, "guess")
	if left := kit.Names(t, filepath.Join(u.Home, ".docker")); len(left) != 0 {
		t.Errorf("a password that is wrong was kept: %q", left)
	}
	u.Stdin = kit.RegistryPassword + "\n"
	r = u.Fastpull(t, "login", "-u", kit.RegistryUser, "--password-stdin", reg.Addr).Expect(t, 0, "logged in to "+reg.Addr)
	kit.ExpectNoSecret(t, r, kit.RegistryPassword)
	pull(u).Expect(t, 0, im.Digest.String())

	// What Docker makes of it: the same credentials.
	program, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal(err)
	}
	docker := u.Command(t.Context(), program, "--config", filepath.Join(u.Home, ".docker"), "logout", reg.Addr)
	if out, err := docker.CombinedOutput(); err != nil {
		t.Errorf("docker logout: %v\n%s", err, out)
	}
	pull(u).Expect(t, 4)
	u.Fastpull(t, "logout", reg.Addr).Expect(t, 0, "there is no login")
}
