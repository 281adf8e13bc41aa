//go:build e2e

package e2e

import (
	"archive/tar"
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

	"golang.org/x/sys/unix"
)

// runIsolated are the flags of docker run with which containers start where the tests run.
var runIsolated = []string{"run", "--rm", "--network", "none", "--security-opt", "seccomp=unconfined"}

// TestDocker29 has an Engine with containerd's store whose decompressors hang. It gets what
// a pull of its own would have left, without running one of them.
func TestDocker29(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	broken := plantUnpigz(t, "unpigz", "igzip", "pigz", "gzip")
	d := startDockerd(t, dockerdOptions{release: today, pathFirst: broken.dir})
	tp := startTap(t, d.sock)
	u := newUser(t, "DOCKER_HOST=unix://"+tp.sock)
	load := func(want string, args ...string) (sent, fetched int64) {
		t.Helper()
		s.reg.traffic(t)
		before := tp.sent.Load()
		sum := u.fastpull(t, append([]string{"--load", "--json"}, args...)...).expect(t, 0).summary(t)
		for _, im := range sum.Images {
			if im.Status != want {
				t.Errorf("%s: %s, want %s", im.Reference, im.Status, want)
			}
		}
		_, fetched = s.reg.traffic(t).blobs()
		return tp.sent.Load() - before, fetched
	}
	runs := func(ref, want string) {
		t.Helper()
		if got := d.must(t, append(slices.Clone(runIsolated), ref)...); got != want {
			t.Errorf("docker run %s prints %q, want %q", ref, got, want)
		}
	}
	images := func() []string {
		t.Helper()
		return strings.Fields(d.must(t, "images", "-a", "--digests", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}"))
	}

	var plain int64
	for _, l := range s.images[0].layers {
		plain += int64(len(l.plain))
	}
	first, _ := load("pulled", s.refs[0])
	if first < plain {
		t.Errorf("%d bytes were sent of layers that have %d", first, plain)
	}
	if again, fetched := load("exists", s.refs[0]); again > 16<<10 || fetched > int64(len(s.images[0].config)) {
		t.Errorf("the second time %d bytes were sent, and %d fetched", again, fetched)
	}
	last := s.images[2].layers[1]
	if more, fetched := load("pulled", s.refs[2]); more > 2*int64(len(last.plain))+64<<10 || fetched > int64(len(last.packed))+8<<10 {
		t.Errorf("for one more layer of %d bytes %d were sent, and %d fetched", len(last.plain), more, fetched)
	}
	load("pulled", s.refs[1])
	want := []string{}
	for i, ref := range s.refs {
		want = append(want, ref+"@"+s.images[i].digest.String())
	}
	runs(s.refs[1], words[1])
	if got := images(); !sameElements(got, want) {
		t.Errorf("images %q, want %q", got, want)
	}

	// The Engine finds what it would have pulled itself.
	for i, ref := range s.refs {
		s.reg.traffic(t)
		if out := d.must(t, "pull", ref); !strings.Contains(out, "up to date") {
			t.Errorf("docker pull %s: %s", ref, out)
		}
		if gets, _ := s.reg.traffic(t).blobs(); gets > 0 {
			t.Errorf("docker pull %s fetched %d blobs", ref, gets)
		}
		d.expectSaved(t, ref, s.images[i])
		pushed := s.reg.addr + "/pushed:" + s.images[i].id.Hex[:12]
		d.must(t, "tag", ref, pushed)
		d.must(t, "push", pushed)
		if got := d.must(t, "image", "inspect", "-f", "{{.Id}}", pushed); got != s.images[i].digest.String() {
			t.Errorf("what was pushed of %s is %s", ref, got)
		}
		d.must(t, "rmi", pushed)
	}

	// By digest, of another repository, and for another machine.
	byDigest := s.reg.addr + "/three@" + s.images[2].digest.String()
	d.must(t, "rmi", s.refs[2])
	load("pulled", byDigest)
	runs(byDigest, words[2])
	copied := s.reg.push(t, "copy:1", s.images[1])
	if sent, _ := load("exists", copied); sent > 16<<10 {
		t.Errorf("another name for an image that is there sent %d bytes", sent)
	}
	foreign := makeImage(t, imageSpec{layers: []layer{noiseLayer(t, 1<<20, 7)}, platform: "linux/s390x"})
	index, digest := s.reg.pushIndex(t, "multi:1", foreign, s.images[0])
	load("pulled", "--platform", "linux/s390x", index)
	load("exists", "--platform", "linux/s390x", index)
	load("exists", index) // it has all that this machine needs of it
	runs(index, words[0])
	if got := d.must(t, "image", "inspect", "-f", "{{.Id}}", index); got != digest.String() {
		t.Errorf("%s is %s, the registry has %s", index, got, digest)
	}

	if pids := broken.starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
	d.expectOnly(t, append(s.images, foreign))
}

// TestDocker29Direct has an Engine whose decompressors hang, and whose containerd gets the
// images: Docker has them at once, as after a pull of its own.
func TestDocker29Direct(t *testing.T) {
	t.Parallel()
	s := newShipment(t)
	broken := plantUnpigz(t, "unpigz", "igzip", "pigz", "gzip")
	d := startDockerd(t, dockerdOptions{release: today, pathFirst: broken.dir})
	u := d.user(t)
	u.fastpull(t, s.refs...).expect(t, 0, "namespace moby (the Docker Engine", "has its images there")
	var want []string
	for i, ref := range s.refs {
		want = append(want, ref+"@"+s.images[i].digest.String())
		if got := d.must(t, append(slices.Clone(runIsolated), ref)...); got != words[i] {
			t.Errorf("docker run %s prints %q", ref, got)
		}
		s.reg.traffic(t)
		if out := d.must(t, "pull", ref); !strings.Contains(out, "up to date") {
			t.Errorf("docker pull %s: %s", ref, out)
		}
		if gets, _ := s.reg.traffic(t).blobs(); gets > 0 {
			t.Errorf("docker pull %s fetched %d blobs", ref, gets)
		}
		d.expectSaved(t, ref, s.images[i])
	}
	if got := strings.Fields(d.must(t, "images", "-a", "--digests", "--format", "{{.Repository}}:{{.Tag}}@{{.Digest}}")); !sameElements(got, want) {
		t.Errorf("images %q, want %q", got, want)
	}
	d.expectOnly(t, s.images)
	empty := startRegistry(t, registryOptions{})
	pushed := empty.addr + "/pushed:1"
	d.must(t, "tag", s.refs[0], pushed)
	d.must(t, "push", pushed)
	if got := d.must(t, "image", "inspect", "-f", "{{.Id}}", pushed); got != s.images[0].digest.String() {
		t.Errorf("what was pushed of %s is %s", s.refs[0], got)
	}
	d.must(t, "rmi", pushed)

	for _, im := range u.fastpull(t, append([]string{"--json"}, s.refs...)...).expect(t, 0).summary(t).Images {
		if im.Status != "exists" || im.BytesFetched > 0 {
			t.Errorf("%+v", im)
		}
	}
	d.must(t, append([]string{"rmi"}, s.refs...)...)
	root := filepath.Join(d.root, "containerd/daemon")
	if !eventually(10*time.Second, func() bool {
		return len(names(t, filepath.Join(root, "io.containerd.content.v1.content/blobs/sha256")))+
			len(names(t, filepath.Join(root, "io.containerd.snapshotter.v1.overlayfs/snapshots"))) == 0
	}) {
		t.Error("docker rmi leaves blobs or snapshots")
	}
	u.fastpull(t, "load", s.bundle(t, "--layers", "keep")).expect(t, 0, "has its images there")
	if got := d.must(t, append(slices.Clone(runIsolated), s.refs[2])...); got != words[2] {
		t.Errorf("loaded from a bundle it prints %q", got)
	}
	if pids := broken.starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
}

// expectSaved checks that docker save of an image has all its blobs.
func (d *dockerd) expectSaved(t *testing.T, ref string, im image) {
	t.Helper()
	saved := d.must(t, "save", ref)
	blobs := make(map[string]bool)
	for tr := tar.NewReader(strings.NewReader(saved + "\n")); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("docker save %s: %v", ref, err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatalf("docker save %s: %s: %v", ref, h.Name, err)
		}
		blobs[hashOf(data).String()] = true
	}
	for _, l := range im.layers {
		if !blobs[l.digest.String()] {
			t.Errorf("docker save %s, %d bytes, lacks layer %s", ref, len(saved), l.digest)
		}
	}
}

// expectOnly checks that the content store of the Engine has the layers of the images as
// the registry has them, and no layer twice.
func (d *dockerd) expectOnly(t *testing.T, images []image) {
	t.Helper()
	var want, got int64
	seen := make(map[string]bool)
	for _, im := range images {
		for _, l := range im.layers {
			if !seen[l.digest.Hex] {
				seen[l.digest.Hex] = true
				want += int64(len(l.packed))
			}
		}
	}
	dir := filepath.Join(d.root, "containerd/daemon/io.containerd.content.v1.content/blobs/sha256")
	for _, name := range names(t, dir) {
		got += size(t, filepath.Join(dir, name))
	}
	if got < want || got > want+64<<10 {
		t.Errorf("the content store has %d bytes, the layers are %d", got, want)
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
	s := newShipment(t)
	broken := plantUnpigz(t, "unpigz", "igzip")
	d := startDockerd(t, dockerdOptions{release: today, pathFirst: broken.dir})
	u := d.user(t)
	for n, form := range []string{"plain", "keep", "zstd"} {
		file := s.bundle(t, "--layers", form)
		sum := u.fastpull(t, "load", "--load", "--json", file).expect(t, 0).summary(t)
		for i, im := range sum.Images {
			if got := d.must(t, "image", "inspect", "-f", "{{.Id}}", im.Reference); got != im.Digest || (got == s.images[i].digest.String()) != (form == "keep") {
				t.Errorf("%s: %s is %s, the bundle has %s", form, im.Reference, got, im.Digest)
			}
		}
		if n == 0 {
			if got := d.must(t, append(slices.Clone(runIsolated), s.refs[1])...); got != words[1] {
				t.Errorf("%s: %s prints %q", form, s.refs[1], got)
			}
		}
		if again := u.fastpull(t, "load", "--load", "--json", file).expect(t, 0).summary(t); again.BytesSent > 0 || again.Images[0].Status != "exists" {
			t.Errorf("%s: the second time %d bytes were sent", form, again.BytesSent)
		}
		d.must(t, append([]string{"rmi", "-f"}, s.refs...)...)
	}
	if pids := broken.starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}

	// A fastpull that is killed between its two loads leaves an image without a name to the
	// next one.
	loads := 0
	proxy := startEngineProxy(t, d.sock, "", func(r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/images/load") {
			loads++
		}
		return loads > 1 || r.Method == http.MethodDelete
	})
	newUser(t, "DOCKER_HOST=unix://"+proxy).fastpull(t, "--load", s.refs[2]).expect(t, 1, "not now", "stays in the Engine")
	if got := d.must(t, "images", "-aq"); len(strings.Fields(got)) != 1 {
		t.Errorf("one image should be left:\n%s", got)
	}
	sum := u.fastpull(t, "--load", "--json", s.refs[2]).expect(t, 0).summary(t)
	if got := d.must(t, "images", "-aq", "--no-trunc"); got != s.images[2].digest.String() || sum.BytesFetched > 0 || sum.BytesSent > 64<<10 {
		t.Errorf("%d bytes were fetched and %d sent of what was there; images:\n%s", sum.BytesFetched, sum.BytesSent, got)
	}

	// An Engine that cannot tell what it has gets an image of another digest, and says so.
	u = newUser(t, "DOCKER_HOST=unix://"+startEngineProxy(t, d.sock, "1.47", nil))
	r := u.fastpull(t, "--load", "--json", s.refs[0]).expect(t, 0, s.images[0].digest.String(), "docker pull would fetch it again")
	id := d.must(t, "image", "inspect", "-f", "{{.Id}}", s.refs[0])
	if id == s.images[0].digest.String() || !strings.Contains(r.stderr, id) {
		t.Errorf("the image is %s\n%s", id, r.stderr)
	}
	if got := d.must(t, append(slices.Clone(runIsolated), s.refs[0])...); got != words[0] {
		t.Errorf("prints %q", got)
	}
	if left := d.must(t, "ps", "-aq"); left != "" {
		t.Errorf("containers are left: %s", left)
	}
}

// startEngineProxy puts a proxy before an Engine. It has the Engine speak an older version
// of the API, unless api is "", and answers in its place what refuse says.
func startEngineProxy(t *testing.T, sock, api string, refuse func(*http.Request) bool) string {
	t.Helper()
	path := filepath.Join(shortTempDir(t), "s")
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
	root := shortTempDir(t)
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmountBelow(t, root) })
	reg := startRegistry(t, registryOptions{})
	small := makeImage(t, imageSpec{layers: []layer{baseLayer(t, 0), smallLayer(t, "word", "small\n")}, cmd: []string{"/bin/cat", "/word"}})
	ref := reg.push(t, "img:tag", small)
	d := startDockerd(t, dockerdOptions{release: today, root: root})
	u := d.user(t)
	u.fastpull(t, "--load", ref).expect(t, 0)

	// What fits as tars, and not unpacked beside them.
	free := int(freeBytes(t, root))
	reg.push(t, "img:tag", makeImage(t, imageSpec{layers: []layer{baseLayer(t, 0), noiseLayer(t, free*2/5, 3)}}))
	r := u.fastpull(t, "--load", "--json", ref).expect(t, 1, "Error unpacking image", "no space left on device")
	if sum := r.summary(t); sum.Images[0].Status != "failed" {
		t.Errorf("%+v", sum.Images[0])
	}
	// The name leads to what it led to before, and the room is free again.
	if got := d.must(t, "image", "inspect", "-f", "{{.Id}}", ref); got != small.digest.String() {
		t.Errorf("%s is %s, want %s", ref, got, small.digest)
	}
	if got := d.must(t, append(slices.Clone(runIsolated), ref)...); got != "small" {
		t.Errorf("it prints %q", got)
	}
	if got := d.must(t, "images", "-aq"); strings.Contains(got, "\n") {
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
	s := newShipment(t)
	broken := plantUnpigz(t, "unpigz", "igzip")
	d := startDockerd(t, dockerdOptions{release: todayOverlay, pathFirst: broken.dir})
	u := d.user(t)
	u.fastpull(t, append([]string{"--load"}, s.refs...)...).expect(t, 0)
	for i, ref := range s.refs {
		if got := d.inspect(t, ref).ID; got != s.images[i].id.String() {
			t.Errorf("%s has the ID %s, want %s", ref, got, s.images[i].id)
		}
	}
	if got := d.must(t, append(slices.Clone(runIsolated), s.refs[0])...); got != words[0] {
		t.Errorf("prints %q", got)
	}
	if again := u.fastpull(t, append([]string{"--load", "--json"}, s.refs...)...).expect(t, 0).summary(t); again.BytesSent > 0 {
		t.Errorf("the second time %d bytes were sent", again.BytesSent)
	}
	d.must(t, "rmi", "-f", s.refs[0], s.refs[1], s.refs[2])
	u.fastpull(t, "load", "--load", s.bundle(t)).expect(t, 0)
	if got := d.must(t, append(slices.Clone(runIsolated), s.refs[1])...); got != words[1] {
		t.Errorf("loaded from a bundle, it prints %q", got)
	}
	if pids := broken.starts(t); len(pids) > 0 {
		t.Errorf("the Engine has run a decompressor: %v", pids)
	}
	if !bytes.Contains(d.info(t), []byte(`"Driver":"overlay2"`)) {
		t.Errorf("it is another driver: %s", d.info(t))
	}
}

// info is what the Engine says of itself.
func (d *dockerd) info(t *testing.T) []byte {
	t.Helper()
	return []byte(d.must(t, "info", "-f", "{{json .}}"))
}
