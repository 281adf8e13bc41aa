//go:build e2e

package engine

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// runIsolated are the flags of docker run with which containers start where the tests run.
var runIsolated = []string{"run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined"}

// TestDocker29 has an Engine with containerd's store whose decompressors hang. It gets what
// a pull of its own would have left, without running one of them.
func TestDocker29(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip", "pigz", "gzip")
	d := kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today, PathFirst: broken.Dir})
	tp := kit.StartTap(t, d.Sock)
	u := kit.NewUser(t, "DOCKER_HOST=unix://"+tp.Sock)
	load := func(want string, args ...string) (sent, fetched int64) {
		t.Helper()
		s.Reg.Traffic(t)
		before := tp.Sent.Load()
		sum := u.Fastpull(t, append([]string{"--load", "--json"}, args...)...).Expect(t, 0).Summary(t)
		for _, im := range sum.Images {
			if im.Status != want {
				t.Errorf("%s: %s, want %s", im.Reference, im.Status, want)
			}
		}
		_, fetched = s.Reg.Traffic(t).Blobs()
		return tp.Sent.Load() - before, fetched
	}
	runs := func(ref, want string) {
		t.Helper()
		if got := d.Must(t, append(slices.Clone(runIsolated), ref)...); got != want {
			t.Errorf("docker run %s prints %q, want %q", ref, got, want)
		}
	}
	images := func() []string {
		t.Helper()
		return strings.Fields(d.Must(t, "images", "-a", "--digests", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}"))
	}

	var plain int64
	for _, l := range s.Images[0].Layers {
		plain += int64(len(l.Plain))
	}
	first, _ := load("pulled", s.Refs[0])
	if first < plain {
		t.Errorf("%d bytes were sent of layers that have %d", first, plain)
	}
	if again, fetched := load("exists", s.Refs[0]); again > 16<<10 || fetched > int64(len(s.Images[0].Config)) {
		t.Errorf("the second time %d bytes were sent, and %d fetched", again, fetched)
	}
	last := s.Images[2].Layers[1]
	if more, fetched := load("pulled", s.Refs[2]); more > 2*int64(len(last.Plain))+64<<10 || fetched > int64(len(last.Packed))+8<<10 {
		t.Errorf("for one more layer of %d bytes %d were sent, and %d fetched", len(last.Plain), more, fetched)
	}
	load("pulled", s.Refs[1])
	want := []string{}
	for i, ref := range s.Refs {
		want = append(want, ref+"@"+s.Images[i].Digest.String())
	}
	runs(s.Refs[1], kit.Words[1])
	if got := images(); !sameElements(got, want) {
		t.Errorf("images %q, want %q", got, want)
	}

	// The Engine finds what it would have pulled itself.
	for i, ref := range s.Refs {
		s.Reg.Traffic(t)
		if out := d.Must(t, "pull", ref); !strings.Contains(out, "up to date") {
			t.Errorf("docker pull %s: %s", ref, out)
		}
		if gets, _ := s.Reg.Traffic(t).Blobs(); gets > 0 {
			t.Errorf("docker pull %s fetched %d blobs", ref, gets)
		}
		d.ExpectSaved(t, ref, s.Images[i])
		pushed := s.Reg.Addr + "/pushed:" + s.Images[i].ID.Hex[:12]
		d.Must(t, "tag", ref, pushed)
		d.Must(t, "push", pushed)
		if got := d.Must(t, "image", "inspect", "-f", "{{.ID}}", pushed); got != s.Images[i].Digest.String() {
			t.Errorf("what was pushed of %s is %s", ref, got)
		}
		d.Must(t, "rmi", pushed)
	}

	// By digest, of another repository, and for another machine.
	byDigest := s.Reg.Addr + "/three@" + s.Images[2].Digest.String()
	d.Must(t, "rmi", s.Refs[2])
	load("pulled", byDigest)
	runs(byDigest, kit.Words[2])
	copied := s.Reg.Push(t, "copy:1", s.Images[1])
	if sent, _ := load("exists", copied); sent > 16<<10 {
		t.Errorf("another name for an image that is there sent %d bytes", sent)
	}
	foreign := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 1<<20, 7)}, Platform: "linux/s390x"})
	index, digest := s.Reg.PushIndex(t, "multi:1", foreign, s.Images[0])
	load("pulled", "--platform", "linux/s390x", index)
	load("exists", "--platform", "linux/s390x", index)
	load("exists", index) // it has all that this machine needs of it
	runs(index, kit.Words[0])
	if got := d.Must(t, "image", "inspect", "-f", "{{.ID}}", index); got != digest.String() {
		t.Errorf("%s is %s, the registry has %s", index, got, digest)
	}

	// Docker itself does not find the layers of this one.
	odd := s.Reg.Push(t, "octets:1", kit.MakeImage(t, kit.ImageSpec{OCI: true, Layers: s.Images[0].Layers, Cmd: []string{"/bin/cat", "/word"}, Label: "octets",
		LieInManifest: func(m *v1.Manifest) { m.Layers[0].MediaType = "application/octet-stream" }}))
	load("pulled", odd)
	runs(odd, kit.Words[0])
	d.Must(t, "rmi", odd)

	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
	d.ExpectOnly(t, append(s.Images, foreign))
}

// TestDocker29Direct has an Engine whose decompressors hang, and whose containerd gets the
// images: Docker has them at once, as after a pull of its own.
func TestDocker29Direct(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip", "pigz", "gzip")
	d := kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today, PathFirst: broken.Dir})
	u := d.User(t)
	u.Fastpull(t, s.Refs...).Expect(t, 0, "namespace moby (the Docker Engine", "has its images there")
	var want []string
	for i, ref := range s.Refs {
		want = append(want, ref+"@"+s.Images[i].Digest.String())
		if got := d.Must(t, append(slices.Clone(runIsolated), ref)...); got != kit.Words[i] {
			t.Errorf("docker run %s prints %q", ref, got)
		}
		s.Reg.Traffic(t)
		if out := d.Must(t, "pull", ref); !strings.Contains(out, "up to date") {
			t.Errorf("docker pull %s: %s", ref, out)
		}
		if gets, _ := s.Reg.Traffic(t).Blobs(); gets > 0 {
			t.Errorf("docker pull %s fetched %d blobs", ref, gets)
		}
		d.ExpectSaved(t, ref, s.Images[i])
	}
	if got := strings.Fields(d.Must(t, "images", "-a", "--digests", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}")); !sameElements(got, want) {
		t.Errorf("images %q, want %q", got, want)
	}
	d.ExpectOnly(t, s.Images)
	empty := kit.StartRegistry(t, kit.RegistryOptions{})
	pushed := empty.Addr + "/pushed:1"
	d.Must(t, "tag", s.Refs[0], pushed)
	d.Must(t, "push", pushed)
	if got := d.Must(t, "image", "inspect", "-f", "{{.Id}}", pushed); got != s.Images[0].Digest.String() {
		t.Errorf("what was pushed of %s is %s", s.Refs[0], got)
	}
	d.Must(t, "rmi", pushed)

	for _, im := range u.Fastpull(t, append([]string{"--json"}, s.Refs...)...).Expect(t, 0).Summary(t).Images {
		if im.Status != "exists" || im.BytesFetched > 0 {
			t.Errorf("%+v", im)
		}
	}
	d.Must(t, append([]string{"rmi"}, s.Refs...)...)
	root := filepath.Join(d.Root, "containerd/daemon")
	if !kit.Eventually(10*time.Second, func() bool {
		return len(kit.Names(t, filepath.Join(root, "io.containerd.content.v1.content/blobs/sha256")))+
			len(kit.Names(t, filepath.Join(root, "io.containerd.snapshotter.v1.overlayfs/snapshots"))) == 0
	}) {
		t.Error("docker rmi leaves blobs or snapshots")
	}
	u.Fastpull(t, "load", s.Bundle(t, "--layers", "keep")).Expect(t, 0, "has its images there")
	if got := d.Must(t, append(slices.Clone(runIsolated), s.Refs[2])...); got != kit.Words[2] {
		t.Errorf("loaded from a bundle it prints %q", got)
	}
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
}

func sameElements(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// TestDocker29Load loads bundles of all forms: the Engine knows an image by the digest that
// it has in the bundle.
func TestDocker29Load(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	d := kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today, PathFirst: broken.Dir})
	u := d.User(t)
	for n, form := range []string{"plain", "keep", "zstd"} {
		file := s.Bundle(t, "--layers", form)
		sum := u.Fastpull(t, "load", "--load", "--json", file).Expect(t, 0).Summary(t)
		for i, im := range sum.Images {
			if got := d.Must(t, "image", "inspect", "-f", "{{.ID}}", im.Reference); got != im.Digest || (got == s.Images[i].Digest.String()) != (form == "keep") {
				t.Errorf("%s: %s is %s, the bundle has %s", form, im.Reference, got, im.Digest)
			}
		}
		if n == 0 {
			if got := d.Must(t, append(slices.Clone(runIsolated), s.Refs[1])...); got != kit.Words[1] {
				t.Errorf("%s: %s prints %q", form, s.Refs[1], got)
			}
		}
		if again := u.Fastpull(t, "load", "--load", "--json", file).Expect(t, 0).Summary(t); again.BytesSent > 0 || again.Images[0].Status != "exists" {
			t.Errorf("%s: the second time %d bytes were sent", form, again.BytesSent)
		}
		d.Must(t, append([]string{"rmi", "-f"}, s.Refs...)...)
	}
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}

	// A fastpull that is killed between its two loads leaves an image without a name to the
	// next one.
	loads := 0
	proxy := startEngineProxy(t, d.Sock, "", func(r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/images/load") {
			loads++
		}
		return loads > 1 || r.Method == http.MethodDelete
	})
	kit.NewUser(t, "DOCKER_HOST=unix://"+proxy).Fastpull(t, "--load", s.Refs[2]).Expect(t, 1, "not now", "stays in the Engine")
	if got := d.Must(t, "images", "-aq"); len(strings.Fields(got)) != 1 {
		t.Errorf("one image should be left:\n%s", got)
	}
	sum := u.Fastpull(t, "--load", "--json", s.Refs[2]).Expect(t, 0).Summary(t)
	if got := d.Must(t, "images", "-aq", "--no-trunc"); got != s.Images[2].Digest.String() || sum.BytesFetched > 0 || sum.BytesSent > 64<<10 {
		t.Errorf("%d bytes were fetched and %d sent of what was there; images:\n%s", sum.BytesFetched, sum.BytesSent, got)
	}

	// An Engine that cannot tell what it has gets an image of another digest, and says so.
	u = kit.NewUser(t, "DOCKER_HOST=unix://"+startEngineProxy(t, d.Sock, "1.47", nil))
	r := u.Fastpull(t, "--load", "--json", s.Refs[0]).Expect(t, 0, s.Images[0].Digest.String(), "docker pull would fetch it again")
	id := d.Must(t, "image", "inspect", "-f", "{{.ID}}", s.Refs[0])
	if id == s.Images[0].Digest.String() || !strings.Contains(r.Stderr, id) {
		t.Errorf("the image is %s\n%s", id, r.Stderr)
	}
	if got := d.Must(t, append(slices.Clone(runIsolated), s.Refs[0])...); got != kit.Words[0] {
		t.Errorf("prints %q", got)
	}
	if left := d.Must(t, "ps", "-aq"); left != "" {
		t.Errorf("containers are left: %s", left)
	}
}

// startEngineProxy puts a proxy before an Engine. It has the Engine speak an older version
// of the API, unless api is "", and answers in its place what refuse says.
func startEngineProxy(t *testing.T, sock, api string, refuse func(*http.Request) bool) string {
	t.Helper()
	path := filepath.Join(kit.ShortTempDir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		FlushInterval: -1,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", sock)
		}},
		ModifyResponse: func(r *http.Response) error {
			if api != "" && r.Header.Get("Api-Version") != "" {
				r.Header.Set("Api-Version", api)
			}
			return nil
		},
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse != nil && refuse(r) {
			io.Copy(io.Discard, r.Body)
			http.Error(w, `{"message":"not now"}`, http.StatusInternalServerError)
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return path
}

// TestDocker29Full: Docker reports that it cannot unpack an image as it reports progress.
func TestDocker29Full(t *testing.T) {
	t.Parallel()
	root := kit.ShortTempDir(t)
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kit.UnmountBelow(t, root) })
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	small := kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.SmallLayer(t, "word", "small\n")}, Cmd: []string{"/bin/cat", "/word"}})
	ref := reg.Push(t, "img:tag", small)
	d := kit.StartDockerd(t, kit.DockerdOptions{Release: kit.Today, Root: root})
	u := d.User(t)
	u.Fastpull(t, "--load", ref).Expect(t, 0)

	// What fits as tars, and not unpacked beside them.
	free := int(freeBytes(t, root))
	reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.BaseLayer(t, 0), kit.NoiseLayer(t, free*2/5, 3)}}))
	r := u.Fastpull(t, "--load", "--json", ref).Expect(t, 1, "Error unpacking image", "no space left on device")
	if sum := r.Summary(t); sum.Images[0].Status != "failed" {
		t.Errorf("%+v", sum.Images[0])
	}
	// The name leads to what it led to before, and the room is free again.
	if got := d.Must(t, "image", "inspect", "-f", "{{.ID}}", ref); got != small.Digest.String() {
		t.Errorf("%s is %s, want %s", ref, got, small.Digest)
	}
	if got := d.Must(t, append(slices.Clone(runIsolated), ref)...); got != "small" {
		t.Errorf("it prints %q", got)
	}
	if got := d.Must(t, "images", "-aq"); strings.Contains(got, "\n") {
		t.Errorf("images are left:\n%s", got)
	}
	if after := int(freeBytes(t, root)); after < free*9/10 {
		t.Errorf("%d bytes are free, %d were before", after, free)
	}
}

func freeBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// TestDocker29Overlay: with overlay2 all is as it is with Docker 20.10.
func TestDocker29Overlay(t *testing.T) {
	t.Parallel()
	s := kit.NewShipment(t)
	broken := kit.PlantUnpigz(t, "unpigz", "igzip")
	d := kit.StartDockerd(t, kit.DockerdOptions{Release: kit.TodayOverlay, PathFirst: broken.Dir})
	u := d.User(t)
	u.Fastpull(t, append([]string{"--load"}, s.Refs...)...).Expect(t, 0)
	for i, ref := range s.Refs {
		if got := d.Inspect(t, ref).ID; got != s.Images[i].ID.String() {
			t.Errorf("%s has the ID %s, want %s", ref, got, s.Images[i].ID)
		}
	}
	if got := d.Must(t, append(slices.Clone(runIsolated), s.Refs[0])...); got != kit.Words[0] {
		t.Errorf("prints %q", got)
	}
	if again := u.Fastpull(t, append([]string{"--load", "--json"}, s.Refs...)...).Expect(t, 0).Summary(t); again.BytesSent > 0 {
		t.Errorf("the second time %d bytes were sent", again.BytesSent)
	}
	d.Must(t, "rmi", "-f", s.Refs[0], s.Refs[1], s.Refs[2])
	u.Fastpull(t, "load", "--load", s.Bundle(t)).Expect(t, 0)
	if got := d.Must(t, append(slices.Clone(runIsolated), s.Refs[1])...); got != kit.Words[1] {
		t.Errorf("loaded from a bundle, it prints %q", got)
	}
	if pids := broken.Starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
	if !bytes.Contains(d.Info(t), []byte(`"Driver":"overlay2"`)) {
		t.Errorf("it is another driver: %s", d.Info(t))
	}
}
