//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
)

// mirrors writes a hosts.toml that puts mirrors before a registry, and returns
// the folder for --hosts-dir.
func mirrors(t *testing.T, registry string, addrs ...string) string {
	t.Helper()
	dir, toml := t.TempDir(), ""
	for _, addr := range addrs {
		toml += fmt.Sprintf("[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", addr)
	}
	writeFile(t, filepath.Join(dir, registry, "hosts.toml"), toml)
	return dir
}

// TestMirror pulls by way of mirrors that hosts.toml names.
func TestMirror(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	origin := startRegistry(t, registryOptions{})
	im := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, size, 1)}})
	ref := origin.push(t, "img:tag", im)
	pull := func(t *testing.T, hosts, ref string) result {
		t.Helper()
		return fastpull(t, "--hosts-dir", hosts, "--store", filepath.Join(t.TempDir(), "s"), ref)
	}

	// The registry itself cannot be reached, so that all comes from the mirror.
	t.Run("PullThrough", func(t *testing.T) {
		mirror := startRegistry(t, registryOptions{of: origin})
		hosts := mirrors(t, "reg.invalid:5000", mirror.addr)
		pull(t, hosts, "reg.invalid:5000/img:tag").expect(t, 0, im.digest.String())
		if _, bytes := mirror.traffic(t).blob(im.layers[0].digest); bytes < size {
			t.Errorf("the mirror sent %d bytes of the layer", bytes)
		}
	})
	t.Run("Plain", func(t *testing.T) {
		mirror := startRegistry(t, registryOptions{})
		mirror.push(t, "img:tag", im)
		origin.traffic(t)
		pull(t, mirrors(t, origin.addr, mirror.addr), ref).expect(t, 0, im.digest.String())
		if got := origin.traffic(t); len(got) != 0 {
			t.Errorf("the registry was asked for %v", got)
		}
	})
	t.Run("HasNothing", func(t *testing.T) {
		mirror := startRegistry(t, registryOptions{})
		pull(t, mirrors(t, origin.addr, mirror.addr), ref).expect(t, 0, im.digest.String())
	})
	t.Run("IsNotThere", func(t *testing.T) {
		pull(t, mirrors(t, origin.addr, freePort(t)), ref).expect(t, 0, im.digest.String())
	})
	t.Run("DryRun", func(t *testing.T) {
		mirror := startRegistry(t, registryOptions{})
		mirror.push(t, "img:tag", im)
		fastpull(t, "--dry-run", "--hosts-dir", mirrors(t, origin.addr, mirror.addr), "--store", filepath.Join(t.TempDir(), "s"), ref).
			expect(t, 0, "known to "+mirror.addr, "from "+mirror.addr)
		if gets, _ := mirror.traffic(t).blob(im.layers[0].digest); gets != 0 {
			t.Errorf("a dry run fetched the layer")
		}
	})
}

// TestMirrorDies kills a mirror in the midst of a layer: the registry gives the
// rest of it.
func TestMirrorDies(t *testing.T) {
	t.Parallel()
	const size, sent = 24 << 20, 8 << 20
	im := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, size, 2)}})
	origin, behind := startRegistry(t, registryOptions{}), startRegistry(t, registryOptions{})
	ref := origin.push(t, "img:tag", im)
	behind.push(t, "img:tag", im)
	mirror := startGate(t, behind)
	mirror.arm(sent)

	run := newUser(t).start(t, "--hosts-dir", mirrors(t, origin.addr, mirror.addr), "--store", filepath.Join(t.TempDir(), "s"), ref)
	mirror.hold(t, &run.err)
	origin.traffic(t)
	mirror.die()
	run.wait(t).expect(t, 0, im.digest.String())
	_, bytes := origin.traffic(t).blob(im.layers[0].digest)
	if bytes == 0 || bytes > size-sent/2 {
		t.Errorf("the registry sent %d bytes of a layer of %d, of which the mirror had sent %d", bytes, size, sent)
	}
}

// TestNoProxy: a host that NO_PROXY names is not asked for by the proxy.
func TestNoProxy(t *testing.T) {
	ca := newAuthority(t)
	reg := startRegistry(t, registryOptions{tls: ca})
	im := makeImage(t, imageSpec{layers: []layer{smallLayer(t, "a", "a")}})
	reg.push(t, "img:tag", im)
	ref := tlsHost + ":5000/img:tag"
	proxy := "HTTPS_PROXY=" + startTunnel(t, reg.addr)
	for _, tc := range []struct {
		except string
		code   int
	}{{"other.test", 0}, {tlsHost, 1}, {".test", 1}} {
		u := newUser(t, proxy, "NO_PROXY="+tc.except)
		r := u.fastpull(t, "--ca", ca.file, "--store", filepath.Join(t.TempDir(), "s"), ref).expect(t, tc.code)
		if tc.code != 0 {
			r.expect(t, tc.code, "lookup "+tlsHost)
		}
	}
	u := newUser(t, "HTTPS_PROXY=http://"+freePort(t))
	u.fastpull(t, "--ca", ca.file, "--store", filepath.Join(t.TempDir(), "s"), ref).expect(t, 1, "the proxy does not answer")
}

// TestLogin logs in to a registry with a password, pulls, and logs out.
func TestLogin(t *testing.T) {
	reg := startRegistry(t, registryOptions{password: true})
	im := makeImage(t, imageSpec{layers: []layer{smallLayer(t, "a", "a")}})
	ref := reg.push(t, "img:tag", im)
	pull := func(u *user) result { return u.fastpull(t, "--store", filepath.Join(t.TempDir(), "s"), ref) }

	u := newUser(t)
	pull(u).expect(t, 4, "fastpull login "+reg.addr)
	u.stdin = "guess\n"
	r := u.fastpull(t, "login", "-u", registryUser, "--password-stdin", reg.addr).expect(t, 4, "does not take")
	expectNoSecret(t, r, "guess")
	if left := names(t, filepath.Join(u.home, ".docker")); len(left) != 0 {
		t.Errorf("a password that is wrong was kept: %q", left)
	}
	u.stdin = registryPassword + "\n"
	r = u.fastpull(t, "login", "-u", registryUser, "--password-stdin", reg.addr).expect(t, 0, "logged in to "+reg.addr)
	expectNoSecret(t, r, registryPassword)
	pull(u).expect(t, 0, im.digest.String())

	// What Docker makes of it: the same credentials.
	program, err := exec.LookPath("docker")
	if err != nil {
		t.Fatal(err)
	}
	docker := u.command(t.Context(), program, "--config", filepath.Join(u.home, ".docker"), "logout", reg.addr)
	if out, err := docker.CombinedOutput(); err != nil {
		t.Errorf("docker logout: %v\n%s", err, out)
	}
	pull(u).expect(t, 4)
	u.fastpull(t, "logout", reg.addr).expect(t, 0, "there is no login")
}
