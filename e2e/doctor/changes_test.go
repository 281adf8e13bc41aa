//go:build e2e

package doctor

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/e2e/kit"
)

// snapshot is what there is below some folders, a line for each file, and the
// mounts.
func snapshot(t *testing.T, folders ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				if os.IsNotExist(err) {
					all[path] = "not there"
					return nil
				}
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			line := fmt.Sprintf("mode %o, owner %d:%d, %d links, %d bytes, changed %d.%09d, device %d", st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Rdev)
			if entry.Type().IsRegular() && st.Size < 1<<20 {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				line += fmt.Sprintf(", %x", sha256.Sum256(data))
			}
			all[path] = line
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	// Tests of other packages mount things at the same time.
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "fastpull-doctor") || slices.ContainsFunc(folders, func(f string) bool { return strings.Contains(line, f) }) {
			all["mounts"] += line
		}
	}
	return all
}

func expectUnchanged(t *testing.T, who string, before, after map[string]string) {
	t.Helper()
	for path, line := range after {
		if before[path] != line {
			t.Errorf("%s: the doctor changed %s:\n%s\nwas\n%s", who, path, line, before[path])
		}
	}
	for path := range before {
		if after[path] == "" {
			t.Errorf("%s: the doctor removed %s", who, path)
		}
	}
}

// TestDoctorChangesNothing compares all that the doctor looks at before and after,
// as root and as somebody else, and follows what it asks of the kernel.
func TestDoctorChangesNothing(t *testing.T) {
	reg := kit.StartRegistry(t, kit.RegistryOptions{})
	ref := reg.Push(t, "img:tag", kit.MakeImage(t, kit.ImageSpec{Layers: []kit.Layer{kit.NoiseLayer(t, 1<<20, 1)}}))
	d := kit.StartDockerd(t, kit.DockerdOptions{})
	d.User(t).Fastpull(t, "--load", ref).Expect(t, 0)
	store := filepath.Join(t.TempDir(), "store")
	kit.Fastpull(t, "--store", store, ref).Expect(t, 0)
	system := []string{"/etc/docker", "/etc/containerd", "/etc/systemd/system", "/var/lib/fastpull", "/var/cache/fastpull"}

	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not there: install it (make deps)")
	}
	log := filepath.Join(t.TempDir(), "strace")
	root := d.User(t)
	root.By = []string{strace, "-f", "-y", "-qq", "-o", log, "-e", "trace=%file,fchmod,fchown,ftruncate,fsetxattr"}
	for _, tc := range []struct {
		who   string
		user  *kit.User
		args  []string
		words []string
	}{
		{"root", root, []string{"--store", store}, []string{
			"overlay at data-root " + d.Root, "mounted for a test", "store (--store): " + store + " takes images", "ranges: bytes"}},
		{"nobody", kit.EveryRights[0].NewUser(t), nil, []string{
			"not root but user 65534", "could not be looked at", "is not there, and could be made", "ranges: bytes"}},
	} {
		folders := append(slices.Clone(system), d.Root, store, tc.user.Home, tc.user.Tmp, filepath.Dir(store))
		before := snapshot(t, folders...)
		r := tc.user.Fastpull(t, slices.Concat([]string{"doctor", ref}, tc.args)...)
		expectUnchanged(t, tc.who, before, snapshot(t, folders...))
		text := strings.Join(strings.Fields(r.Stdout), " ")
		for _, w := range tc.words {
			if !strings.Contains(text, w) {
				t.Errorf("%s: does not say %q\n%s%s", tc.who, w, r.Stdout, r.Stderr)
			}
		}
	}

	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if changes.MatchString(line) && !strings.Contains(line, " = -1 ") {
			n++
			if !harmless.MatchString(line) {
				t.Errorf("the doctor asked for a change: %s", line)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d calls were seen that change anything, where folders are tried\n%s", n, text)
	}
}

// changes are the calls that change a file system, and harmless those of them that are about the
// doctor's own temporary folder, a file without a name or in memory, the mounts of one thread,
// and the user namespace of a process that it has started; or that give a folder its time back.
var (
	changes = regexp.MustCompile(`^\d+ +(open(at2?)?\(.*O_(WRONLY|RDWR|CREAT|TRUNC)|creat\(|mkdir|rmdir|unlink|rename|link\(|linkat|symlink|` +
		`mknod|f?l?chmod|f?l?chown|f?truncate|[fl]?setxattr|[fl]?removexattr|utime|futimes|u?mount)`)
	harmless = regexp.MustCompile(`\.fastpull-doctor-|O_TMPFILE|/memfd:|"/dev/null"|"/proc/\d+/(uid_map|gid_map|setgroups)"|` +
		`mount\("", "/", .*MS_REC\|MS_PRIVATE|mount\("overlay", "merged"|umount2\("merged"|utimensat\(AT_FDCWD(<[^>]*>)?, "[^"]*", \[UTIME_OMIT, `)
)
