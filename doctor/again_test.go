package doctor

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A shell that is given the line runs the same again, by way of a sudo that gives on
// what it is told to and nothing else.
func TestAsRoot(t *testing.T) {
	const sudo = `#!/bin/sh
keep=
while :; do
	case $1 in
	--preserve-env=*) for v in $(echo "${1#*=}" | tr , ' '); do eval "keep=\"$keep $v=\$$v\""; done ;;
	*=*) keep="$keep $1" ;;
	*) break ;;
	esac
	shift
done
exec env -i $keep sh -c 'echo "$HTTPS_PROXY|$NO_PROXY|$DOCKER_HOST|$DOCKER_CONFIG"; printf "<%s>" "$@"' sh "$@"
`
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sudo"), []byte(sudo), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "https_proxy", "HTTP_PROXY", "http_proxy", "no_proxy"} {
		t.Setenv(name, "")
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("HTTPS_PROXY", "http://ali:sesame@proxy:3128")
	t.Setenv("NO_PROXY", "reg")
	t.Setenv("DOCKER_HOST", "unix:///run/other.sock")
	t.Setenv("DOCKER_CONFIG", "")
	for _, tc := range []struct {
		image   string
		command []string
		want    string
	}{
		{"", nil, "||unix:///run/other.sock|\n<fastpull><doctor>"},
		{"host:5000/img:1", nil, "http://ali:sesame@proxy:3128|reg|unix:///run/other.sock|\n<fastpull><doctor><host:5000/img:1>"},
		{"img", []string{"/opt/my programs/fastpull", "doctor", "--ca=it's.crt", "img"}, "http://ali:sesame@proxy:3128|reg|unix:///run/other.sock|\n</opt/my programs/fastpull><doctor><--ca=it's.crt><img>"},
	} {
		f := (&exam{Options: Options{Image: tc.image, Command: tc.command}}).noEngine(fs.ErrPermission, true)
		if strings.Contains(f.Fix[0], "sesame") {
			t.Errorf("a password: %s", f.Fix[0])
		}
		out, err := exec.Command("sh", "-c", f.Fix[0]).CombinedOutput()
		if err != nil || string(out) != tc.want {
			t.Errorf("%s\nsays %s, %v\nwant %s", f.Fix[0], out, err, tc.want)
		}
	}
}

// TestPasteable has lines that a shell of this host can run: root needs no sudo, and a program that
// the PATH does not have is named by its path.
func TestPasteable(t *testing.T) {
	own := filepath.Join(t.TempDir(), "fastpull")
	if err := os.WriteFile(own, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	sudo := "sudo "
	if os.Geteuid() == 0 {
		sudo = ""
	}
	lines := []string{
		"sudo kill 7   # ends the pull", "echo 'a b' | sudo tee -a /etc/hosts", "fastpull host/img",
		"podman unshare fastpull --podman img", "# in fastpull and sudo", "sudo --preserve-env=A x",
	}
	with := func(program string) []string {
		return []string{
			sudo + "kill 7   # ends the pull", "echo 'a b' | " + sudo + "tee -a /etc/hosts", program + " host/img",
			"podman unshare " + program + " --podman img", "# in fastpull and sudo", "sudo --preserve-env=A x",
		}
	}
	bin, other := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Symlink(own, filepath.Join(bin, "fastpull")),
		os.WriteFile(filepath.Join(other, "fastpull"), []byte("#!/bin/sh\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{bin: with("fastpull"), other: with(quote(own)), t.TempDir(): with(quote(own))} {
		t.Setenv("PATH", path)
		e := &exam{program: program(t.Context(), own)}
		if got := e.pasteable(lines); !slices.Equal(got, want) {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
	if got := new(exam).pasteable(nil); got != nil {
		t.Errorf("of nothing: %q", got)
	}
}
