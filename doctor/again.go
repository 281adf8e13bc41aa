package doctor

import (
	"os"
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
