//go:build e2e

package destinations

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

	"github.com/fastpull/fastpull/e2e/kit"
)

// closedImage is the tricky image and, on top of it, folders that their owner
// may not write to, as some distributions have them, and an attribute that only
// root may set.
func closedImage(t *testing.T) kit.Image {
	t.Helper()
	low := kit.MakeLayer(t, kit.Gzipped,
		kit.Dir("usr", 0o555), kit.Dir("usr/bin", 0o555), kit.File("usr/bin/old", 0o555, "old"), kit.File("usr/bin/kept", 0o755, "kept"),
		kit.Dir("usr/lib", 0o555).Owned(8, 8), kit.Dir("usr/lib/deep", 0o500), kit.File("usr/lib/deep/x", 0o400, "x").Owned(8, 9),
		kit.Dir("usr/shut", 0), kit.File("usr/shut/x", 0, "shut"),
	)
	up := kit.MakeLayer(t, kit.Gzipped,
		kit.Whiteout("usr/bin/old"), kit.Dir("usr/lib", 0o555), kit.Opaque("usr/lib"), kit.File("usr/lib/new", 0o644, "new"),
		kit.File("usr/bin/new", 0o4755, "new").Owned(0, 7), kit.File("trusted", 0o644, "").Xattr("trusted.note", "root's"),
		kit.Device(tar.TypeChar, "usr/bin/zero", 0o666, 1, 5).Owned(1, 1),
	)
	tricky := kit.TrickyImage(t, "rootless")
	return kit.MakeImage(t, kit.ImageSpec{Layers: append(slices.Clone(tricky.Layers), low, up), Cmd: tricky.Cmd()})
}

// TestRootless pulls one image with ever other rights, and compares what there
// is with what the machine's root gets.
func TestRootless(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	im := closedImage(t)
	ref := reg.Push(t, "img:tag", im)
	reference := filepath.Join(t.TempDir(), "rootfs")
	kit.Fastpull(t, "--rootfs", reference, ref).Expect(t, 0)
	o := kit.TreeOptions{
		MadeUp: begun, NoLinkCounts: true,
		// Attributes of others' files have their own check.
		Xattr: func(name string) bool { return strings.HasPrefix(name, "user.") },
	}
	want := kit.ReadTree(t, reference, o)
	if len(want) < 60 {
		t.Fatalf("the image has only %d files", len(want))
	}

	for _, r := range kit.EveryRights {
		t.Run(r.Name, func(t *testing.T) {
			u := r.NewUser(t)
			store, rootfs := filepath.Join(u.Home, "store"), filepath.Join(u.Home, "rootfs")
			want := r.See(want)
			same := func(what, dir string) {
				t.Helper()
				got, want := kit.ReadTree(t, dir, o), want
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
				kit.ExpectSame(t, what, kit.CompareNodes(got, want))
				if got := hasXattr(t, filepath.Join(dir, "kinds/ping"), "security.capability"); got != r.Caps {
					t.Errorf("%s: security.capability is there: %t, want %t", what, got, r.Caps)
				}
			}

			told := u.Fastpull(t, "--rootfs", rootfs, ref).Expect(t, 0)
			if got, want := told.Warnings(), r.Warnings(t, im); !slices.Equal(got, want) {
				t.Errorf("--rootfs warns %q\nwant %q", got, want)
			}
			same("--rootfs", rootfs)

			told = u.Fastpull(t, "--store", store, ref).Expect(t, 0, "user.overlay.opaque")
			if got, want := told.Warnings(), r.Warnings(t, im); !slices.Equal(got, want) {
				t.Errorf("--store warns %q\nwant %q", got, want)
			}
			kit.ExpectClean(t, store)
			u.Fastpull(t, "images", "--store", store).Expect(t, 0, im.ID.Hex[:12])
			u.Fastpull(t, "verify", "--store", store).Expect(t, 0, "all as it should be")

			// What was killed on the way left files of whatever owner.
			orphan := filepath.Join(store, "fastpull/run/orphan")
			plantOrphan(t, orphan, r)
			reg.Traffic(t)
			told = u.Fastpull(t, "--store", store, ref).Expect(t, 0, im.Digest.String())
			if blobs, _ := reg.Traffic(t).Blobs(); blobs != 0 || len(told.Warnings()) > 0 {
				t.Errorf("a second pull fetched %d blobs, and warns %q", blobs, told.Warnings())
			}
			kit.ExpectClean(t, store)
			if _, err := os.Lstat(orphan); !os.IsNotExist(err) {
				t.Errorf("what a dead process left is still there: %v", err)
			}

			// The machine's root can look at everybody's store.
			same("mounted by root", kit.MountImage(t, store, ref))
			if r.Space {
				mountInside(t, u, store, ref, func(dir string) { same("mounted in the namespace", dir) })
				return
			}
			point := filepath.Join(u.Home, "point")
			if err := os.Mkdir(point, 0o755); err != nil {
				t.Fatal(err)
			}
			hint := "CAP_SYS_ADMIN"
			if r.Host == kit.Nobody {
				hint = "unshare --user --map-root-user --mount"
			}
			u.Fastpull(t, "mount", "--store", store, ref, point).Expect(t, 4, "not permitted", hint)
		})
	}
}

// TestStoreOfAnother: what a store cannot take without harm is refused, before
// anything in it changes.
func TestStoreOfAnother(t *testing.T) {
	t.Parallel()
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:1", closedImage(t))
	other := reg.Push(t, "img:2", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{
		kit.MakeLayer(t, kit.Gzipped, kit.Dir("a", 0o755), kit.File("a/low", 0o644, "low")),
		kit.MakeLayer(t, kit.Gzipped, kit.Dir("a", 0o755), kit.Opaque("a"), kit.File("a/high", 0o644, "high")),
	}}))
	of := map[string]kit.Rights{}
	for _, r := range kit.EveryRights {
		of[r.Name] = r
	}

	t.Run("OfRoot", func(t *testing.T) {
		store := filepath.Join(t.TempDir(), "store")
		if err := os.Chmod(filepath.Dir(filepath.Dir(store)), 0o755); err != nil {
			t.Fatal(err)
		}
		kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
		before := kit.ReadTree(t, store, kit.TreeOptions{})
		for _, c := range []struct {
			who   string
			words []string
		}{
			{"Nobody", []string{"permission denied", "--store"}},
			{"NamespaceOfNobody", []string{"permission denied", "--store"}},
			{"NamespaceOfRoot", []string{"trusted.overlay.opaque", "--store"}},
			{"Container", []string{"trusted.overlay.opaque", "CAP_SYS_ADMIN", "--store"}},
		} {
			of[c.who].NewUser(t).Fastpull(t, "--store", store, other).Expect(t, 4, c.words...)
		}
		u := of["NamespaceOfRoot"].NewUser(t)
		u.Fastpull(t, "mount", "--store", store, ref, u.Home).Expect(t, 4, "trusted.overlay.opaque", "does not hold in a user namespace")
		after := kit.ReadTree(t, store, kit.TreeOptions{})
		for _, tree := range []map[string]kit.Node{before, after} {
			delete(tree["fastpull/run"], "mtime") // each had its folder in it for a moment
		}
		kit.ExpectSame(t, "those who were refused changed the store", kit.CompareNodes(after, before))
	})

	t.Run("OfNobody", func(t *testing.T) {
		u := of["Nobody"].NewUser(t)
		store := filepath.Join(u.Home, "store")
		u.Fastpull(t, "--store", store, ref).Expect(t, 0)
		kit.Fastpull(t, "--store", store, other).Expect(t, 4, "belongs to user 65534")
		// The same user in a namespace that maps it to root.
		space := of["NamespaceOfNobody"].NewUser(t)
		space.Fastpull(t, "--store", store, other).Expect(t, 0)
		point := kit.MountImage(t, store, other)
		if got := kit.Names(t, filepath.Join(point, "a")); !slices.Equal(got, []string{"high"}) {
			t.Errorf("in the opaque folder: %q", got)
		}
	})

	// What a container's root began, root goes on with in the same form.
	t.Run("OfContainer", func(t *testing.T) {
		u := of["Container"].NewUser(t)
		store := filepath.Join(u.Home, "store")
		u.Fastpull(t, "--store", store, ref).Expect(t, 0)
		kit.Fastpull(t, "--store", store, other).Expect(t, 0)
		point := kit.MountImage(t, store, other)
		if got := kit.Names(t, filepath.Join(point, "a")); !slices.Equal(got, []string{"high"}) {
			t.Errorf("in the opaque folder: %q", got)
		}
	})

	t.Run("NoMountNamespace", func(t *testing.T) {
		r := of["NamespaceOfNobody"]
		r.By = r.By[:len(r.By)-1]
		u := r.NewUser(t)
		store := filepath.Join(u.Home, "store")
		u.Fastpull(t, "--store", store, other).Expect(t, 0)
		u.Fastpull(t, "mount", "--store", store, other, u.Tmp).Expect(t, 4, "not permitted", "unshare --user --map-root-user --mount")
	})
}

// TestDefaultStore: a user that cannot write to /var/lib has a store of its own, root of
// a user namespace too.
func TestDefaultStore(t *testing.T) {
	for _, r := range kit.EveryRights {
		if r.Host == 0 {
			continue
		}
		u := r.NewUser(t)
		u.Fastpull(t, "images").Expect(t, 3, "no store at "+u.Home+"/.local/share/fastpull")
	}
}

// plantOrphan makes a folder as a killed fastpull leaves it, with closed folders
// and, if the user can have those, other owners.
func plantOrphan(t *testing.T, dir string, r kit.Rights) {
	t.Helper()
	inner := filepath.Join(dir, "layer/diff/closed")
	other := r.Host
	if r.Ids > 1 {
		other += 7
	}
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(inner, "x"), nil, 0); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"layer/diff/closed/x", "layer/diff/closed", "layer/diff", "layer", "."} {
		owner := r.Host
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
func mountInside(t *testing.T, u *kit.User, store, ref string, look func(dir string)) {
	t.Helper()
	point := filepath.Join(u.Home, "inside")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), kit.RunDeadline)
	defer cancel()
	cmd := u.Command(ctx, "/bin/sh", "-c",
		`"$0" mount --store "$1" "$2" "$3" && read go && "$0" umount "$3" && echo unmounted`, kit.Programs.Fastpull, store, ref, point)
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	var errs kit.LogBuffer
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
	if len(kit.MountsBelow(t, point)) > 0 {
		t.Error("the mount is seen outside of the namespace")
	}
	look(fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, point))
}
