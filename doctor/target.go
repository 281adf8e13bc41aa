package doctor

import (
	"strconv"
	"strings"

	"github.com/fastpull/fastpull/registry"
)

// target is what a registry is asked for.
type target struct {
	ref   registry.Reference // of a host alone: its host counts
	image bool               // an image is named
}

// parseTarget reads host:5000/img[:tag], or a host alone. "redis:7" is an image, and
// so "reg:5000" could be one; tags that look like a port of a registry are rare.
func parseTarget(s string) (target, error) {
	for _, scheme := range []string{"https://", "http://"} {
		s = strings.TrimPrefix(s, scheme)
	}
	if s == "" {
		return target{}, nil
	}
	host, rest, slash := strings.Cut(s, "/")
	alone := slash && rest == "" || !slash && isHost(host)
	if alone {
		s = host + "/any" // for its host
	}
	ref, err := registry.ParseReference(s)
	return target{ref, !alone && err == nil}, err
}

func isHost(s string) bool {
	if strings.Contains(s, "@") {
		return false
	}
	host, port, _ := strings.Cut(s, ":")
	if strings.HasPrefix(s, "[") || host == "localhost" || strings.Contains(host, ".") {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && (n == 80 || n >= 100)
}

// String returns the name of the image for a command, with IMAGE as its path if none is named.
func (t target) String() string {
	if t.image {
		return t.ref.String()
	}
	return t.host() + "/IMAGE"
}

// host is the registry as it is contacted.
func (t target) host() string { return t.ref.Host() }
