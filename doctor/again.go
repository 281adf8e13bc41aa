package doctor

import (
	"os"
	"os/exec"
	"slices"
	"strings"
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
				line = before + e.program() + " " + rest
			}
		}
		list[i] = line
	}
	return list
}

// program returns how a shell runs this program.
func (e *exam) program() string {
	const name = "fastpull"
	if len(e.Command) == 0 {
		return name
	}
	found, err := exec.LookPath(name)
	if err == nil {
		there, serr := os.Stat(found)
		own, oerr := os.Stat(e.Command[0])
		if serr == nil && oerr == nil && os.SameFile(there, own) {
			return name
		}
	}
	return quote(e.Command[0])
}
