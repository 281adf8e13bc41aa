package doctor

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// layer is where an unpacker writes to.
type layer struct {
	dir    string // as the Engine names it
	number int    // of its image, from 1; 0 if it could not be told
	below  string // the chain ID of the layer below it, "" if there is none or it could not be told
}

// layerOf says which layer a copy of dockerd writes. What the Engine has of it are
// links to the layers below; it has no name until it is whole.
func (p procfs) layerOf(unpacker, engine *process) (l layer) {
	for _, arg := range slices.Backward(unpacker.args) {
		if strings.HasPrefix(arg, "/") && len(arg) > 1 {
			l.dir = filepath.Clean(arg)
			break
		}
	}
	if l.dir == "" {
		// It has locked itself up in there.
		l.dir, _ = os.Readlink(p.file(unpacker.pid, "root"))
	}
	if l.dir == "/" {
		l.dir = ""
	}
	if filepath.Base(l.dir) != "diff" {
		return l
	}
	own := filepath.Dir(l.dir)
	driver := filepath.Dir(own)
	root := root(p.file(engine.pid, "root"))
	lower, err := readRegular(root.path(filepath.Join(own, "lower")))
	if os.IsNotExist(err) {
		if _, err := os.Stat(root.path(own)); err == nil {
			l.number = 1
		}
		return l
	}
	if err != nil {
		return l
	}
	links := strings.Split(strings.TrimSpace(string(lower)), ":")
	l.number = len(links) + 1
	target, err := os.Readlink(filepath.Join(root.path(driver), filepath.Clean("/"+links[0])))
	if err != nil {
		return l
	}
	l.below = chainOf(root, driver, filepath.Base(filepath.Dir(target)))
	return l
}

// chainOf finds the layer in an Engine's books whose files are in the folder id.
func chainOf(root root, driver, id string) string {
	books := root.path(filepath.Join(filepath.Dir(driver), "image", filepath.Base(driver), "layerdb/sha256"))
	dir, err := os.Open(books)
	if err != nil {
		return ""
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			if got, err := readRegular(filepath.Join(books, name, "cache-id")); err == nil && string(got) == id {
				return "sha256:" + name
			}
		}
		if err != nil {
			return ""
		}
	}
}

// reference is what may be pasted into a shell as the name of an image.
var reference = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]*$`)

// pulls lists the images that clients are pulling with an Engine now. An Engine does not report
// that, but the arguments of its clients have the name. For a containerd, these are the clients
// of the dockerd that started it. Podman and Buildah pull by themselves.
func (p procfs) pulls(all map[int]*process, engine *process) (names []string) {
	if docker := dockerOf(all, engine); docker != nil {
		engine = docker
	}
	hosts := dockerHosts(engine.args)
	for _, x := range all {
		words := x.args
		i := slices.Index(words, "pull")
		if i < 1 {
			continue
		}
		if x.comm != "docker" && !hasStorage(x.comm) || hasStorage(x.comm) && x.pid != engine.pid {
			continue
		}
		if x.comm == "docker" && (!isDockerd(engine.comm) || !slices.Contains(hosts, p.dockerHost(x))) {
			continue
		}
		if slices.Contains(words[1:i], "compose") {
			continue // which names its services
		}
		if name := imageOf(words[i+1:]); reference.MatchString(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// imageOf finds the image among the arguments of a pull, "" if that is not certain: the
// value of a flag may be a password (podman pull --creds).
func imageOf(args []string) string {
	name := ""
	for i, arg := range args {
		value := i > 0 && strings.HasPrefix(args[i-1], "-") && !strings.Contains(args[i-1], "=") &&
			!slices.Contains([]string{"-q", "--quiet", "-a", "--all-tags", "--disable-content-trust", "--tls-verify"}, args[i-1])
		switch {
		case strings.HasPrefix(arg, "-"), value:
		case name != "":
			return ""
		default:
			name = arg
		}
	}
	return name
}

// dockerHost is the Engine that a docker client speaks to.
func (p procfs) dockerHost(client *process) string {
	if hosts := values(client.args, "-H", "--host"); len(hosts) > 0 {
		return socket(hosts[0])
	}
	env, _ := p.environ(client.pid)
	if host := env["DOCKER_HOST"]; host != "" {
		return socket(host)
	}
	return socket("unix:///var/run/docker.sock")
}

// dockerHosts are the addresses that a dockerd listens on.
func dockerHosts(args []string) (hosts []string) {
	for _, h := range values(args, "-H", "--host") {
		if h == "fd://" || h == "unix://" {
			h = "unix:///var/run/docker.sock"
		}
		hosts = append(hosts, socket(h))
	}
	if hosts == nil {
		hosts = []string{socket("unix:///var/run/docker.sock")}
	}
	return hosts
}

// socket is an address in one spelling: /var/run is /run nearly everywhere.
func socket(addr string) string {
	if rest, ok := strings.CutPrefix(addr, "unix:///var/run/"); ok {
		return "unix:///run/" + rest
	}
	return addr
}

// values are those of a flag that may have several names.
func values(args []string, flags ...string) (list []string) {
	for i, arg := range args {
		for _, flag := range flags {
			if arg == flag && i+1 < len(args) {
				list = append(list, args[i+1])
			} else if v, ok := strings.CutPrefix(arg, flag+"="); ok {
				list = append(list, v)
			}
		}
	}
	return list
}
