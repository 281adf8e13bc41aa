package doctor

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fastpull/fastpull/internal/checkup"
)

// asRoot returns a command line that runs this examination again as root. sudo removes most
// variables, so the line sets those that lead to an Engine and to Docker's configuration. Proxy
// variables may contain a password, so the line names them without their values, and sudo takes
// the values from the user's shell.
func (e *exam) asRoot() string {
	words := []string{"sudo"}
	if keep := proxyVariables(); e.Image != "" && len(keep) > 0 {
		words = append(words, "--preserve-env="+strings.Join(keep, ","))
	}
	for _, name := range []string{"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONFIG"} {
		if value := os.Getenv(name); value != "" {
			words = append(words, name+"="+quote(value))
		}
	}
	command := e.Command
	if command == nil {
		command = []string{"fastpull", "doctor"}
		if e.Image != "" {
			command = append(command, e.Image)
		}
	}
	for _, word := range command {
		words = append(words, quote(word))
	}
	return strings.Join(words, " ")
}

// proxyVariables are those that are set, in the order in which they count.
func proxyVariables() (list []string) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"} {
		if os.Getenv(name) != "" {
			list = append(list, name)
		}
	}
	return list
}

// pasteable returns lines that can be pasted into a shell of this host as they are: for root
// without sudo, which a rescue shell may lack, and with the path of this program if the shell
// does not find it by its name.
func (e *exam) pasteable(lines []string) []string {
	list := slices.Clone(lines)
	for i, line := range list {
		if os.Geteuid() == 0 && !strings.HasPrefix(line, "sudo -") { // as asRoot writes it
			line = strings.TrimPrefix(line, "sudo ")
			line = strings.Replace(line, " | sudo ", " | ", 1)
		}
		for _, before := range []string{"", "podman unshare "} {
			if rest, ok := strings.CutPrefix(line, before+"fastpull "); ok {
				line = before + cmp.Or(e.program, "fastpull") + " " + rest
			}
		}
		list[i] = line
	}
	return list
}

// program returns how a shell runs a program whose name is known: by the name alone, if the PATH
// has it there.
func program(ctx context.Context, path string) string {
	inPath, err := checkup.Within(ctx, checkup.FileSystemTime, func() (bool, error) {
		found, err := exec.LookPath(filepath.Base(path))
		if err != nil {
			return false, err
		}
		there, err := os.Stat(found)
		if err != nil {
			return false, err
		}
		own, err := os.Stat(path)
		return err == nil && os.SameFile(there, own), err
	})
	if err == nil && inPath {
		return filepath.Base(path)
	}
	return quote(path)
}
