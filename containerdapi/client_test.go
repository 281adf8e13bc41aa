package containerdapi

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/fakecontainerd"
	"github.com/fastpull/fastpull/internal/testkit"
)

// dial connects to a server.
func dial(t *testing.T, s *fakecontainerd.Server) *Client {
	t.Helper()
	c, err := Dial(t.Context(), Options{Address: "unix://" + s.Address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestDial: why no containerd answers is told apart.
func TestDial(t *testing.T) {
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	if c := dial(t, s); c.Version() != "2.4.2" || c.Address() != s.Address {
		t.Errorf("version %q at %s", c.Version(), c.Address())
	}
	silent := fakecontainerd.Start(t, testkit.SocketDir(t))
	silent.Silent = map[string]bool{"Version": true}
	dir := testkit.SocketDir(t)
	stale := filepath.Join(dir, "stale")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for address, cause := range map[string]error{filepath.Join(dir, "none"): fs.ErrNotExist, stale: nil, silent.Address: nil} {
		begun := time.Now()
		_, err := Dial(t.Context(), Options{Address: address, Timeout: 200 * time.Millisecond})
		if !errors.Is(err, ErrUnavailable) || cause != nil && !errors.Is(err, cause) || !strings.Contains(fault.Advice(err), "--containerd=ADDRESS") {
			t.Errorf("%s: %v", address, err)
		}
		if time.Since(begun) > 5*time.Second {
			t.Errorf("%s: it took %v", address, time.Since(begun))
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(cancelled, Options{Address: s.Address}); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestDialDenied: a socket that may not be used is not an absent one.
func TestDialDenied(t *testing.T) {
	err := dialError(t.Context(), "/socket", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", unix.EACCES)})
	if fault.KindOf(err) != fault.Denied || errors.Is(err, ErrUnavailable) || !strings.Contains(fault.Advice(err), "root") {
		t.Errorf("%v", err)
	}
}

// TestHeaders: the calls of a client name its namespace and lease, and those of the client
// that it was made of do not.
func TestHeaders(t *testing.T) {
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	c := dial(t, s)
	in := c.In("one")
	leased := in.Leased("lease")
	for _, tc := range []struct {
		c    *Client
		want string
	}{{c, "/"}, {in, "one/"}, {leased, "one/lease"}, {in, "one/"}} {
		if _, err := tc.c.Plugins(t.Context()); err != nil || s.Last() != tc.want {
			t.Errorf("%v: %q, want %q", err, s.Last(), tc.want)
		}
	}
	if err := errors.Join(in.LeaseBlob(t.Context(), "sha256:0"), leased.LeaseBlob(t.Context(), "sha256:1"), leased.Snapshots("overlayfs").Lease(t.Context(), "key")); err != nil {
		t.Error(err)
	}
	if got, want := s.Leased(), []string{"lease content sha256:1", "lease snapshots/overlayfs key"}; !slices.Equal(got, want) {
		t.Errorf("held: %q, want %q", got, want)
	}
}

// TestLeases: a lease expires by itself, and may be gone when it is deleted.
func TestLeases(t *testing.T) {
	c := dial(t, fakecontainerd.Start(t, testkit.SocketDir(t)))
	one, err := c.CreateLease(t.Context(), "prefix-", time.Hour)
	if err != nil || !strings.HasPrefix(one, "prefix-") {
		t.Fatalf("%q, %v", one, err)
	}
	if two, err := c.CreateLease(t.Context(), "prefix-", time.Hour); err != nil || two == one {
		t.Errorf("%q, %v", two, err)
	}
	for range 2 {
		if err := c.DeleteLease(t.Context(), one, true); err != nil {
			t.Error(err)
		}
	}
}

// TestPlugins: a plugin that could not be loaded is not there.
func TestPlugins(t *testing.T) {
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	s.Plugins = []*introspectionapi.Plugin{
		{Type: "io.containerd.snapshotter.v1", ID: "overlayfs", Exports: map[string]string{"root": "/data/o"}, Capabilities: []string{"rebase"}},
		{Type: "io.containerd.snapshotter.v1", ID: "zfs", InitErr: &rpc.Status{Code: int32(codes.Unknown)}},
		{Type: "io.containerd.content.v1", ID: "content", Exports: map[string]string{"root": "/data/c"}},
		{Type: "io.containerd.grpc.v1", ID: "cri", InitErr: &rpc.Status{Code: int32(codes.Internal)}},
	}
	c := dial(t, s)
	p, err := c.Plugins(t.Context())
	if err != nil || p.CRI || len(p.Snapshotters) != 1 || p.Content.Root != "/data/c" {
		t.Errorf("%+v, %v", p, err)
	}
	if o := p.Snapshotters["overlayfs"]; o.Root != "/data/o" || !o.Has("rebase") || o.Has("remap-ids") {
		t.Errorf("%+v", o)
	}
	s.Plugins[3].InitErr = nil
	if p, err := c.Plugins(t.Context()); err != nil || !p.CRI {
		t.Errorf("%+v, %v", p, err)
	}
	for namespace, want := range map[string]int{"labelled": 1, "new": 0} {
		if labels, err := c.In(namespace).NamespaceLabels(t.Context()); err != nil || len(labels) != want {
			t.Errorf("%s: %v, %v", namespace, labels, err)
		}
	}
}

// TestSetImage: a name moves to another target, and keeps the labels that others have set.
func TestSetImage(t *testing.T) {
	s := fakecontainerd.Start(t, testkit.SocketDir(t))
	c := dial(t, s)
	set := func(d string, labels map[string]string) {
		t.Helper()
		if err := c.SetImage(t.Context(), "name", ocispec.Descriptor{MediaType: "type", Digest: digestOf(d), Size: 7}, labels); err != nil {
			t.Fatal(err)
		}
		im := s.Image("name")
		if im.Target.Digest != digestOf(d).String() || im.Target.MediaType != "type" || im.Target.Size != 7 {
			t.Errorf("%+v", im)
		}
	}
	set("a", map[string]string{"mine": "1"})
	set("b", nil)
	set("b", map[string]string{"second": "2"})
	if got := s.Image("name").Labels; got["mine"] != "1" || got["second"] != "2" || len(got) != 2 {
		t.Errorf("labels: %v", got)
	}
	want := map[string]digest.Digest{"name": digestOf("b")}
	if got, err := c.Images(t.Context()); err != nil || !maps.Equal(got, want) {
		t.Errorf("images: %v, %v", got, err)
	}
}

// TestMountOption finds an option by its name alone.
func TestMountOption(t *testing.T) {
	m := &Mount{Options: []string{"index=off", "userxattr", "lowerdir=/a:/b", "upperdir=/u=v"}}
	for name, want := range map[string]string{"index": "off", "userxattr": "", "lowerdir": "/a:/b", "upperdir": "/u=v"} {
		if got, ok := MountOption(m, name); !ok || got != want {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	if _, ok := MountOption(m, "lower"); ok {
		t.Error("a part of a name was taken for it")
	}
}
