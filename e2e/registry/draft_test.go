//go:build e2e

package registry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
	"github.com/fastpull/fastpull/internal/faulty"
)

// TestDraftResumes ends bundles with the registry's own bytes in mid-blob and lets
// them go on, with what was left damaged in between. The bundle is that of a run that
// was let alone, and what was fetched for it no more than what was missing, or the
// layer once more.
func TestDraftResumes(t *testing.T) {
	t.Parallel()
	from := newSource(t)
	whole := filepath.Join(t.TempDir(), "whole.tar")
	kit.NewUser(t).Fastpull(t, "bundle", "--layers=keep", "--no-resume", "-o", whole, from.Addr+"/img:tag").Expect(t, 0)
	want, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	const record = 512 // bytes before the blob
	change := func(do func([]byte) []byte) func(string) error {
		return func(name string) error {
			data, err := os.ReadFile(name)
			return errors.Join(err, os.WriteFile(name, do(data), 0o600))
		}
	}
	for _, tc := range []struct {
		name   string
		sig    syscall.Signal
		damage func(name string) error
		anew   bool // all of the layer is fetched
		stays  bool // what was left is somebody else's, by its looks
		full   bool // the disk has room for nothing else
	}{
		{name: "Killed", sig: syscall.SIGKILL},
		{name: "FullDisk", sig: syscall.SIGKILL, full: true},
		{name: "Interrupted", sig: syscall.SIGINT},
		{name: "FlippedByte", sig: syscall.SIGKILL, anew: true, damage: change(func(b []byte) []byte {
			b[record+1000] ^= 1
			return b
		})},
		{name: "AllWhole", sig: syscall.SIGKILL, anew: true, damage: change(func(b []byte) []byte {
			copy(b[168:record], bytes.Repeat([]byte{0xff}, record-168))
			return b
		})},
		{name: "CutInTheBlob", sig: syscall.SIGKILL, anew: true, damage: func(name string) error { return os.Truncate(name, 1<<20) }},
		{name: "Empty", sig: syscall.SIGKILL, anew: true, damage: func(name string) error { return os.Truncate(name, 0) }},
		{name: "Garbage", sig: syscall.SIGKILL, anew: true, stays: true, damage: change(func(b []byte) []byte { return kit.Noise("", len(b), 9).Data })},
		{name: "Another'sToWrite", sig: syscall.SIGKILL, anew: true, stays: true, damage: func(name string) error { return os.Chmod(name, 0o666) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := &interrupted{sharing: &sharing{im: from.im}, user: kit.NewUser(t), big: from.im.Layers[0]}
			p.proxy = kit.StartFaulty(t, from.Registry, faulty.Options{Rate: thinLine})
			p.ref = p.proxy.Addr + "/img:tag"
			dir := t.TempDir()
			if tc.full {
				dir = kit.NewMount(t, "tmpfs", "size=13m")
			}
			out := filepath.Join(dir, "out.tar")
			left := out + ".fastpull-partial"
			p.args = []string{"bundle", "--layers=keep", "-o", out}
			r := p.start(t, p.user, p.args...)
			p.sent(t, 5<<20, r)
			r.Signal(t, tc.sig)
			if res := r.Wait(t); tc.sig == syscall.SIGINT {
				res.Expect(t, 130, " MB of layers are kept on disk; "+left+" stays; the same command continues from there")
			}
			if got := kit.Names(t, dir); !slices.Equal(got, []string{filepath.Base(left)}) {
				t.Fatalf("in the folder: %q", got)
			}
			got := p.proxy.Sent(p.big.Digest.String())
			if tc.damage != nil {
				if err := tc.damage(left); err != nil {
					t.Fatal(err)
				}
			}
			r = p.start(t, p.user, p.args...)
			r.Wait(t).Expect(t, 0, out)
			switch n := p.proxy.Sent(p.big.Digest.String()) - got; {
			case tc.anew && (n < p.size() || n > 2*p.size()):
				t.Errorf("%d bytes were sent of a layer of %d, of which nothing good was left", n, p.size())
			case !tc.anew && (n < p.size()-got || n > p.size()-got+lost):
				t.Errorf("after %d bytes of %d, %d more were sent", got, p.size(), n)
			}
			// The lists at the end have the name of the registry, which is another one.
			data, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(data[:len(want)-20<<10], want[:len(want)-20<<10]) {
				t.Error("it is another bundle")
			}
			p.user.Fastpull(t, "verify", out).Expect(t, 0)
			if got := strings.Join(kit.Names(t, dir), " "); tc.stays != strings.Contains(got, filepath.Base(left)) {
				t.Errorf("in the folder: %s", got)
			}
		})
	}
}
