//go:build !cgo || exclude_graphdriver_btrfs

package podman

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/internal/need"
)

// machine is one with a podman in the PATH, or without, and a storage.conf.
func machine(t *testing.T, podman bool, conf string) (root string) {
	t.Helper()
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("storage.conf", strings.NewReplacer("ROOT", root, "RUN", filepath.Join(dir, "run")).Replace(conf), 0o600)
	if podman {
		write("podman", "#!/bin/sh\n", 0o755)
	}
	for name, value := range map[string]string{
		"PATH": dir, "CONTAINERS_STORAGE_CONF": filepath.Join(dir, "storage.conf"), "STORAGE_DRIVER": "", "XDG_RUNTIME_DIR": dir, "HOME": dir,
	} {
		t.Setenv(name, value)
	}
	return root
}

// Configurations of the store at ROOT.
const (
	plainConf = "[storage]\ngraphroot = \"ROOT\"\nrunroot = \"RUN\"\n"
	vfsConf   = "[storage]\ndriver = \"vfs\"\ngraphroot = \"ROOT\"\nrunroot = \"RUN\"\n"
)

func make755(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestUsed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		podman bool
		conf   string
		has    string // a directory of the store
		list   bool   // with a list of images
		used   bool
		why    string
	}{
		{name: "no podman", conf: plainConf, has: "overlay-images", list: true},
		{name: "no store", podman: true, conf: plainConf},
		{name: "no image", podman: true, conf: plainConf, has: "overlay-images"},
		{name: "images", podman: true, conf: plainConf, has: "overlay-images", list: true, used: true},
		{name: "vfs by its files", podman: true, conf: plainConf, has: "vfs-images", list: true, used: true, why: "the storage driver vfs"},
		{name: "vfs", podman: true, conf: vfsConf, has: "vfs-images", list: true, used: true, why: "the storage driver vfs"},
		{name: "vfs, never used", podman: true, conf: vfsConf, has: "overlay-images", list: true},
		{name: "fuse-overlayfs", podman: true, conf: plainConf + "[storage.options.overlay]\nmount_program = \"/p\"\n", has: "overlay-images", list: true, used: true},
		{name: "other owners", podman: true, conf: plainConf + "[storage.options.overlay]\nignore_chown_errors = \"true\"\n", has: "overlay-images", list: true, used: true, why: "the option ignore_chown_errors"},
		{name: "other owners for all drivers", podman: true, conf: plainConf + "[storage.options]\nignore_chown_errors = \"true\"\n", has: "overlay-images", list: true, used: true, why: "the option ignore_chown_errors"},
		{name: "of vfs", podman: true, conf: plainConf + "[storage.options.vfs]\nignore_chown_errors = \"true\"\n", has: "overlay-images", list: true, used: true},
		{name: "images elsewhere", podman: true, conf: plainConf + "imagestore = \"ROOT-images\"\n", has: "overlay-images", list: true},
		{name: "no configuration", podman: true, conf: "[storage", has: "overlay-images", list: true, why: "storage.conf"},
		{name: "no configuration and no podman", conf: "[storage", has: "overlay-images", list: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := machine(t, tc.podman, tc.conf)
			if tc.has != "" {
				make755(t, filepath.Join(want, tc.has))
			}
			if tc.list {
				if err := os.WriteFile(filepath.Join(want, tc.has, "images.json"), []byte("[]"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if !tc.used {
				want = ""
			} else if os.Geteuid() != 0 {
				tc.why = "user namespace of Podman"
			}
			root, err := Used(t.Context())
			if root != want {
				t.Errorf("the store is %q, want %q", root, want)
			}
			if fmt.Sprint(err) != "<nil>" && tc.why == "" || tc.why != "" && (err == nil || !strings.Contains(err.Error(), tc.why)) {
				t.Errorf("the error is %v, want %q", err, tc.why)
			}
		})
	}
}

// TestCheck looks at stores that are configured.
func TestCheck(t *testing.T) {
	need.Root(t, "check a store that a plain user may not write")
	more := t.TempDir()
	for _, tc := range []struct {
		conf, has string
		level     checkup.Level
		words     []string
	}{
		{plainConf, "", checkup.OK, []string{"could be made"}},
		{plainConf, "overlay-images", checkup.OK, []string{"takes images, by the storage driver overlay"}},
		{vfsConf, "", checkup.Warning, []string{"the storage driver vfs", "podman load"}},
		{plainConf + fmt.Sprintf("[storage.options]\nadditionalimagestores = [%q]\n", more), "overlay-images", checkup.OK, []string{"additional image stores have are not pulled: " + more}},
		{plainConf + "[storage.options]\nadditionalimagestores = [\"/no/such/store\"]\n", "overlay-images", checkup.Problem, []string{"/no/such/store of storage.conf is not there"}},
	} {
		root := machine(t, true, tc.conf)
		if tc.has != "" {
			make755(t, filepath.Join(root, tc.has))
		}
		for _, f := range Check(t.Context(), &destination.Machine{}, "") {
			if f.Level != tc.level {
				t.Errorf("%s: %s: %s", tc.conf, f.Level, f.Text)
			}
			for _, w := range tc.words {
				if !strings.Contains(f.Text, w) {
					t.Errorf("%s: it does not say %q: %s", tc.conf, w, f.Text)
				}
			}
		}
	}
}
