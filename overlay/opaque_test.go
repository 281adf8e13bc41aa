package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/privilege"
)

// TestForm looks at stores of all origins with other rights.
func TestForm(t *testing.T) {
	const trusted, user = "trusted.overlay.opaque\n", "user.overlay.opaque\n"
	may, mayNot := privilege.Process{Trusted: true}, privilege.Process{Level: privilege.Reduced}
	for _, c := range []struct {
		name    string
		file    string // what stands in fastpull/opaque; "": there is none
		layers  bool
		owner   int
		p       privilege.Process
		user    bool
		decided bool
		err     string
		kind    fault.Kind
	}{
		{name: "new", p: may, decided: true},
		{name: "new, with less rights", p: mayNot, user: true, decided: true},
		{name: "root's", file: trusted, layers: true, p: may},
		{name: "root's, with less rights", file: trusted, layers: true, p: mayNot, err: "trusted.overlay.opaque", kind: fault.Denied},
		{name: "a user's", file: user, layers: true, p: mayNot, user: true},
		{name: "a user's, with all rights", file: user, layers: true, p: may, user: true},
		{name: "Docker's", layers: true, p: may},
		{name: "Docker's, with less rights", layers: true, p: mayNot, err: "trusted.overlay.opaque", kind: fault.Denied},
		{name: "of another", file: user, layers: true, owner: 7, p: may, err: "belongs to the user 7, and fastpull runs as 0", kind: fault.Denied},
		{name: "of a rootless Docker", layers: true, owner: 7, p: may, err: "belongs to the user 7", kind: fault.Denied},
		{name: "damaged", file: "user.overlay.opa", layers: true, p: may, err: "fastpull/opaque", kind: fault.Corrupt},
		{name: "empty file", file: "\n", layers: true, p: may, err: "fastpull/opaque", kind: fault.Corrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openTest(t, t.TempDir())
			if c.layers {
				putChain(t, s, "x", 1)
			}
			name := s.path(opaqueFile)
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			if c.file != "" {
				if err := os.WriteFile(name, []byte(c.file), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chown(s.path("image/overlay2/layerdb"), c.owner, c.owner); err != nil {
				t.Fatal(err)
			}
			s.opaque.User, s.decided = false, false
			err := s.settle(c.p)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || fault.KindOf(err) != c.kind {
					t.Fatalf("got %v (%d), want %q (%d)", err, fault.KindOf(err), c.err, c.kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.Whiteouts().User != c.user || s.Decided() != c.decided {
				t.Errorf("user %t, decided %t; want %t, %t", s.Whiteouts().User, s.Decided(), c.user, c.decided)
			}
			if got, err := s.form(); c.decided && (err != nil || got.User != c.user) {
				t.Errorf("who comes later finds %+v, %v", got, err)
			}
			idle(t, s)
		})
	}
}

// TestFormIsOne: processes with different rights in a new store have one
// form, that of the first. A process that cannot have it gets an error.
func TestFormIsOne(t *testing.T) {
	for range 4 {
		dir := t.TempDir()
		var stores []*Store
		for range 4 {
			stores = append(stores, openTest(t, dir))
		}
		if err := os.Remove(stores[0].path(opaqueFile)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		errs := make([]error, len(stores))
		for i, s := range stores {
			s.decided = false
			wg.Go(func() { errs[i] = s.settle(privilege.Process{Trusted: i%2 == 0}) })
		}
		wg.Wait()
		form, err := stores[0].form()
		if err != nil {
			t.Fatal(err)
		}
		decided := 0
		for i, s := range stores {
			if refused := !form.User && i%2 == 1; (errs[i] != nil) != refused {
				t.Fatalf("the form is %s, and %d gets %v", form.OpaqueXattr(), i, errs[i])
			}
			if errs[i] == nil && s.Whiteouts() != form {
				t.Fatalf("the form is %s, and %d has %s", form.OpaqueXattr(), i, s.Whiteouts().OpaqueXattr())
			}
			if s.Decided() {
				decided++
			}
		}
		if decided != 1 {
			t.Fatalf("%d of %d decided", decided, len(stores))
		}
	}
}

// TestReaderForm: the root of a rootless Docker can be mounted as it is.
func TestReaderForm(t *testing.T) {
	s := openTest(t, t.TempDir())
	if _, err := (&Reader{dir: t.TempDir()}).form(); err != errUndecided {
		t.Errorf("no store at all: %v", err)
	}
	putChain(t, s, "x", 1)
	if err := os.Remove(s.path(opaqueFile)); err != nil {
		t.Fatal(err)
	}
	for uid, user := range map[int]bool{0: false, 1000: true} {
		if err := os.Chown(s.path("image/overlay2/layerdb"), uid, uid); err != nil {
			t.Fatal(err)
		}
		if got, err := s.form(); err != nil || got.User != user {
			t.Errorf("made by %d: %+v, %v", uid, got, err)
		}
	}
}

// TestMountUser mounts a store of the user's form, in which the attribute of the
// other form means nothing.
func TestMountUser(t *testing.T) {
	s := openTest(t, t.TempDir())
	img := putChain(t, s, "x", 2)
	if err := os.WriteFile(s.path(opaqueFile), []byte("user.overlay.opaque"), 0o644); err != nil {
		t.Fatal(err)
	}
	chain := s.Chain(img.Layers)
	for i, l := range chain {
		for _, name := range []string{"user", "trusted"} {
			dir := filepath.Join(s.DiffDir(l), name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				continue
			}
			if err := unix.Setxattr(dir, name+".overlay.opaque", []byte("y"), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir := target(t)
	if err := s.Mount(img, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{"user": 1, "trusted": 2} {
		entries, err := os.ReadDir(filepath.Join(dir, name))
		if err != nil || len(entries) != want {
			t.Errorf("%s has %d entries, %v; want %d", name, len(entries), err, want)
		}
	}
	if err := Unmount(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

func TestMountError(t *testing.T) {
	at := func(l privilege.Level) privilege.Process {
		p := privilege.Current() // with all capabilities
		p.Level = l
		return p
	}
	old, first, now := version{5, 10}, version{5, 11}, version{6, 1}
	for _, c := range []struct {
		name string
		err  error
		p    privilege.Process
		user bool
		k    version
		kind fault.Kind
		hint string
	}{
		{"namespace, old kernel", unix.EPERM, at(privilege.Namespace), true, old, fault.Denied, "(5.10) is too old"},
		{"user, old kernel", unix.EPERM, at(privilege.User), true, old, fault.Denied, "too old"},
		{"root, old kernel", unix.EINVAL, at(privilege.Full), true, old, fault.Denied, "--rootfs"},
		{"root, old kernel, refused", unix.EPERM, at(privilege.Full), true, old, fault.Denied, "only root may mount"},
		{"namespace", unix.EPERM, at(privilege.Namespace), true, first, fault.Denied, "mount namespace of its own"},
		{"namespace, kernel unknown", unix.EPERM, at(privilege.Namespace), true, version{}, fault.Denied, "mount namespace of its own"},
		{"user", unix.EPERM, at(privilege.User), true, now, fault.Denied, "unshare"},
		{"container", unix.EPERM, privilege.Process{Level: privilege.Reduced}, true, now, fault.Denied, "CAP_SYS_ADMIN"},
		{"EACCES", unix.EACCES, at(privilege.Reduced), false, now, fault.Denied, "only root may mount"},
		{"another error", unix.EINVAL, at(privilege.Full), true, now, fault.Failed, ""},
		{"root's store on an old kernel", unix.EINVAL, at(privilege.Full), false, old, fault.Failed, ""},
	} {
		err := mountError(fmt.Errorf("mount: %w", c.err), c.p, c.user, c.k)
		hint := fault.HintOf(err)
		if !errors.Is(err, c.err) || fault.KindOf(err) != c.kind || (hint == "") != (c.hint == "") || !strings.Contains(hint, c.hint) {
			t.Errorf("%s: %v, kind %d, hint %q; want kind %d, hint %q", c.name, err, fault.KindOf(err), hint, c.kind, c.hint)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for release, want := range map[string]version{
		"5.10.0-28-amd64": {5, 10}, "4.19.0": {4, 19}, "6.18": {6, 18}, "5.11-rc1": {5, 11}, "10.2.3": {10, 2},
		"": {}, "6": {}, "linux": {}, "v5.1": {},
	} {
		if got := parseVersion(release); got != want {
			t.Errorf("%q: %v, want %v", release, got, want)
		}
	}
	if kernel().before(4, 0) {
		t.Errorf("this kernel is %v", kernel())
	}
}
