//go:build e2e

package e2e

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// closedImage is the tricky image and, on top of it, folders that their owner
// may not write to, as some distributions have them, and an attribute that only
// root may set.
func closedImage(t *testing.T) image {
	t.Helper()
	low := makeLayer(t, gzipped,
		dir("usr", 0o555), dir("usr/bin", 0o555), file("usr/bin/old", 0o555, "old"), file("usr/bin/kept", 0o755, "kept"),
		dir("usr/lib", 0o555).owned(8, 8), dir("usr/lib/deep", 0o500), file("usr/lib/deep/x", 0o400, "x").owned(8, 9),
		dir("usr/shut", 0), file("usr/shut/x", 0, "shut"),
	)
	up := makeLayer(t, gzipped,
		whiteout("usr/bin/old"), dir("usr/lib", 0o555), opaque("usr/lib"), file("usr/lib/new", 0o644, "new"),
		file("usr/bin/new", 0o4755, "new").owned(0, 7), file("trusted", 0o644, "").xattr("trusted.note", "root's"),
		device(tar.TypeChar, "usr/bin/zero", 0o666, 1, 5).owned(1, 1),
	)
	tricky := trickyImage(t, "rootless")
	return makeImage(t, imageSpec{layers: append(slices.Clone(tricky.layers), low, up), cmd: tricky.cmd()})
}

// TestRootless pulls one image with ever other rights, and compares what there
// is with what the machine's root gets.
func TestRootless(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	reg := startRegistry(t, registryOptions{})
	im := closedImage(t)
	ref := reg.push(t, "img:tag", im)
	reference := filepath.Join(t.TempDir(), "rootfs")
	fastpull(t, "--rootfs", reference, ref).expect(t, 0)
	o := treeOptions{
		madeUp: begun, noLinkCounts: true,
		// Attributes of others' files have their own check.
		xattr: func(name string) bool { return strings.HasPrefix(name, "user.") },
	}
	want := readTree(t, reference, o)
	if len(want) < 60 {
		t.Fatalf("the image has only %d files", len(want))
	}

	for _, r := range everyRights {
		t.Run(r.name, func(t *testing.T) {
			u := r.newUser(t)
			store, rootfs := filepath.Join(u.home, "store"), filepath.Join(u.home, "rootfs")
			want := r.see(want)
			same := func(what, dir string) {
				t.Helper()
				got, want := readTree(t, dir, o), want
				if dir != rootfs {
					// Layers that do not name them: --rootfs keeps them as they are below, a
					// store cannot.
					for _, name := range []string{"srv", "usr", "usr/bin"} {
						want = maps.Clone(want)
						want[name] = maps.Clone(want[name])
						for _, what := range []string{"mode", "mtime"} {
							delete(got[name], what)
							delete(want[name], what)
						}
					}
				}
				expectSame(t, what, compareNodes(got, want))
				if got := hasXattr(t, filepath.Join(dir, "kinds/ping"), "security.capability"); got != r.caps {
					t.Errorf("%s: security.capability is there: %t, want %t", what, got, r.caps)
				}
			}

			told := u.fastpull(t, "--rootfs", rootfs, ref).expect(t, 0)
			if got, want := told.warnings(), r.warnings(t, im); !slices.Equal(got, want) {
				t.Errorf("--rootfs warns %q\nwant %q", got, want)
			}
			same("--rootfs", rootfs)

			told = u.fastpull(t, "--store", store, ref).expect(t, 0, "user.overlay.opaque")
			if got, want := told.warnings(), r.warnings(t, im); !slices.Equal(got, want) {
				t.Errorf("--store warns %q\nwant %q", got, want)
			}
			expectClean(t, store)
			u.fastpull(t, "images", "--store", store).expect(t, 0, im.id.Hex[:12])
			u.fastpull(t, "verify", "--store", store).expect(t, 0, "all as it should be")

			// What was killed on the way left files of whatever owner.
			orphan := filepath.Join(store, "fastpull/run/orphan")
			plantOrphan(t, orphan, r)
			reg.traffic(t)
			told = u.fastpull(t, "--store", store, ref).expect(t, 0, im.digest.String())
			if blobs, _ := reg.traffic(t).blobs(); blobs != 0 || len(told.warnings()) > 0 {
				t.Errorf("a second pull fetched %d blobs, and warns %q", blobs, told.warnings())
			}
			expectClean(t, store)
			if _, err := os.Lstat(orphan); !os.IsNotExist(err) {
				t.Errorf("what a dead process left is still there: %v", err)
			}

			// The machine's root can look at everybody's store.
			same("mounted by root", mountImage(t, store, ref))
			if r.space {
				mountInside(t, u, store, ref, func(dir string) { same("mounted in the namespace", dir) })
				return
			}
			point := filepath.Join(u.home, "point")
			if err := os.Mkdir(point, 0o755); err != nil {
				t.Fatal(err)
			}
			hint := "CAP_SYS_ADMIN"
			if r.host == nobody {
				hint = "unshare --user --map-root-user --mount"
			}
			u.fastpull(t, "mount", "--store", store, ref, point).expect(t, 4, "not permitted", hint)
		})
	}
}

// TestStoreOfAnother: what a store cannot take without harm is refused, before
// anything in it changes.
func TestStoreOfAnother(t *testing.T) {
	t.Parallel()
	reg := startRegistry(t, registryOptions{})
	ref := reg.push(t, "img:1", closedImage(t))
	other := reg.push(t, "img:2", makeImage(t, imageSpec{layers: []layer{
		makeLayer(t, gzipped, dir("a", 0o755), file("a/low", 0o644, "low")),
		makeLayer(t, gzipped, dir("a", 0o755), opaque("a"), file("a/high", 0o644, "high")),
	}}))
	of := map[string]rights{}
	for _, r := range everyRights {
		of[r.name] = r
	}

	t.Run("OfRoot", func(t *testing.T) {
		store := filepath.Join(t.TempDir(), "store")
		if err := os.Chmod(filepath.Dir(filepath.Dir(store)), 0o755); err != nil {
			t.Fatal(err)
		}
		fastpull(t, "--store", store, ref).expect(t, 0)
		before := readTree(t, store, treeOptions{})
		for _, c := range []struct {
			who   string
			words []string
		}{
			{"Nobody", []string{"permission denied", "--store"}},
			{"NamespaceOfNobody", []string{"permission denied", "--store"}},
			{"NamespaceOfRoot", []string{"trusted.overlay.opaque", "--store"}},
			{"Container", []string{"trusted.overlay.opaque", "CAP_SYS_ADMIN", "--store"}},
		} {
			of[c.who].newUser(t).fastpull(t, "--store", store, other).expect(t, 4, c.words...)
		}
		u := of["NamespaceOfRoot"].newUser(t)
		u.fastpull(t, "mount", "--store", store, ref, u.home).expect(t, 4, "trusted.overlay.opaque", "does not hold in a user namespace")
		after := readTree(t, store, treeOptions{})
		for _, tree := range []map[string]node{before, after} {
			delete(tree["fastpull/run"], "mtime") // each had its folder in it for a moment
		}
		expectSame(t, "those who were refused changed the store", compareNodes(after, before))
	})

	t.Run("OfNobody", func(t *testing.T) {
		u := of["Nobody"].newUser(t)
		store := filepath.Join(u.home, "store")
		u.fastpull(t, "--store", store, ref).expect(t, 0)
		fastpull(t, "--store", store, other).expect(t, 4, "belongs to user 65534")
		// He is the same man in a namespace that maps him to root.
		space := of["NamespaceOfNobody"].newUser(t)
		space.fastpull(t, "--store", store, other).expect(t, 0)
		point := mountImage(t, store, other)
		if got := names(t, filepath.Join(point, "a")); !slices.Equal(got, []string{"high"}) {
			t.Errorf("in the opaque folder: %q", got)
		}
	})

	// What a container's root began, root goes on with in the same form.
	t.Run("OfContainer", func(t *testing.T) {
		u := of["Container"].newUser(t)
		store := filepath.Join(u.home, "store")
		u.fastpull(t, "--store", store, ref).expect(t, 0)
		fastpull(t, "--store", store, other).expect(t, 0)
		point := mountImage(t, store, other)
		if got := names(t, filepath.Join(point, "a")); !slices.Equal(got, []string{"high"}) {
			t.Errorf("in the opaque folder: %q", got)
		}
	})

	t.Run("NoMountNamespace", func(t *testing.T) {
		r := of["NamespaceOfNobody"]
		r.by = r.by[:len(r.by)-1]
		u := r.newUser(t)
		store := filepath.Join(u.home, "store")
		u.fastpull(t, "--store", store, other).expect(t, 0)
		u.fastpull(t, "mount", "--store", store, other, u.tmp).expect(t, 4, "not permitted", "unshare --user --map-root-user --mount")
	})
}

// TestDefaultStore: who cannot write to /var/lib has a store of his own, root of
// a user namespace too.
func TestDefaultStore(t *testing.T) {
	for _, r := range everyRights {
		if r.host == 0 {
			continue
		}
		u := r.newUser(t)
		u.fastpull(t, "images").expect(t, 3, "no store at "+u.home+"/.local/share/fastpull")
	}
}

// plantOrphan makes a folder as a killed fastpull leaves it, with closed folders
// and, where he can have those, other owners.
func plantOrphan(t *testing.T, dir string, r rights) {
	t.Helper()
	inner := filepath.Join(dir, "layer/diff/closed")
	other := r.host
	if r.ids > 1 {
		other += 7
	}
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inner, "x"), nil, 0); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"layer/diff/closed/x", "layer/diff/closed", "layer/diff", "layer", "."} {
		owner := r.host
		if strings.Contains(p, "closed") {
			owner = other
		}
		if err := os.Chown(filepath.Join(dir, p), owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(inner, 0o555); err != nil {
		t.Fatal(err)
	}
}

func hasXattr(t *testing.T, path, name string) bool {
	t.Helper()
	_, err := unix.Lgetxattr(path, name, make([]byte, 64))
	if err != nil && err != unix.ENODATA {
		t.Fatalf("%s of %s: %v", name, path, err)
	}
	return err == nil
}

// mountInside mounts the image in a mount namespace of u's, calls look with the
// path by which root sees it from outside, and unmounts it there.
func mountInside(t *testing.T, u *user, store, ref string, look func(dir string)) {
	t.Helper()
	point := filepath.Join(u.home, "inside")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), runDeadline)
	defer cancel()
	cmd := u.command(ctx, "/bin/sh", "-c",
		`"$0" mount --store "$1" "$2" "$3" && read go && "$0" umount "$3" && echo unmounted`, programs.fastpull, store, ref, point)
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	var errs logBuffer
	cmd.Stderr = &errs
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	defer func() {
		fmt.Fprintln(in)
		rest, _ := io.ReadAll(lines)
		if err := cmd.Wait(); err != nil || string(rest) != "unmounted\n" {
			t.Errorf("umount in the namespace: %v\n%s%s", err, rest, errs.String())
		}
	}()
	if line, err := lines.ReadString('\n'); err != nil || !strings.Contains(line, point) {
		t.Fatalf("mount in the namespace: %v\n%s%s", err, line, errs.String())
	}
	if len(mountsBelow(t, point)) > 0 {
		t.Error("the mount is seen outside of the namespace")
	}
	look(fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, point))
}
