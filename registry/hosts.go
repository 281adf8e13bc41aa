package registry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// hostConf is what is configured for one server of a registry.
type hostConf struct {
	scheme  string // "http", "https", or "" for what is found out
	name    string // host or host:port, as go-containerregistry has it
	base    string // the path before the repository
	bare    bool   // base is no root of the API: there is nothing to ping
	pull    bool   // may be asked for what has a digest
	resolve bool   // may be asked what a tag is

	skipVerify  bool
	ca          []string
	client      [][2]string // certificate and key; the key may be in the same file
	header      http.Header
	dialTimeout time.Duration
}

// hostTable is a table of hosts.toml: [host."URL"], or the file itself for the
// server.
type hostTable struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   bool           `toml:"skip_verify"`
	Header       map[string]any `toml:"header"`
	OverridePath bool           `toml:"override_path"`
	DialTimeout  string         `toml:"dial_timeout"`
}

// readHosts returns the servers of the first hosts.toml for a registry, in the order of the
// file, and the registry's own server last. It returns none if there is no such file. If
// lenient, it skips a file without permission to read it.
func readHosts(dirs []string, lenient bool, registry string) ([]hostConf, error) {
	ns := namespace(registry)
	names := []string{ns, "_default"}
	if host, port, ok := cutPort(ns); ok {
		names = slices.Insert(names, 0, host+"_"+port+"_") // where a colon cannot be in a name
	}
	for _, dir := range dirs {
		for _, folder := range names {
			file := filepath.Join(dir, folder, "hosts.toml")
			data, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || lenient && absent(err) {
				continue
			}
			if err != nil {
				return nil, fileError("mirrors of "+ns, err)
			}
			hosts, err := parseHosts(data, filepath.Dir(file), registry)
			if err != nil {
				return nil, fmt.Errorf("read mirrors of %s in %s: %w", ns, file, err)
			}
			return hosts, nil
		}
	}
	return nil, nil
}

// parseHosts reads a hosts.toml; relative names of files in it begin at dir.
func parseHosts(data []byte, dir, registry string) ([]hostConf, error) {
	var file struct {
		Server string               `toml:"server"`
		Host   map[string]hostTable `toml:"host"`
		hostTable
	}
	if err := toml.Unmarshal(data, &file); err != nil {
		var where *toml.DecodeError
		if errors.As(err, &where) {
			row, _ := where.Position()
			return nil, fmt.Errorf("line %d: %w", row, err)
		}
		return nil, err
	}
	var hosts []hostConf
	for _, server := range hostOrder(data, file.Host) {
		h, err := file.Host[server].conf(server, dir)
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", cut(server, 100), err)
		}
		hosts = append(hosts, h)
	}
	origin, err := file.conf(cmp.Or(file.Server, registry), dir)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return append(hosts, origin), nil
}

// hostOrder returns the keys of table "host" as they stand in the file: mirrors
// are asked in this order, which a map does not keep.
func hostOrder(data []byte, hosts map[string]hostTable) []string {
	var order []string
	p := unstable.Parser{}
	for p.Reset(data); p.NextExpression(); {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.KeyValue {
			continue
		}
		key := e.Key()
		if !key.Next() || string(key.Node().Data) != "host" || !key.Next() {
			continue
		}
		server := string(key.Node().Data)
		if _, ok := hosts[server]; ok && !slices.Contains(order, server) {
			order = append(order, server)
		}
	}
	// Those of an inline table have no order of their own here.
	for _, server := range slices.Sorted(maps.Keys(hosts)) {
		if !slices.Contains(order, server) {
			order = append(order, server)
		}
	}
	return order
}

// conf makes the table's settings those of a server.
func (t hostTable) conf(server, dir string) (h hostConf, err error) {
	if h, err = parseServer(server, t.OverridePath); err != nil {
		return h, err
	}
	for _, c := range t.Capabilities {
		switch strings.ToLower(c) {
		case "pull":
			h.pull = true
		case "resolve":
			h.resolve = true
		case "push", "referrers": // nothing that is done here
		default:
			return h, fmt.Errorf("unknown capability %q", c)
		}
	}
	if len(t.Capabilities) == 0 {
		h.pull, h.resolve = true, true
	}
	h.skipVerify = t.SkipVerify
	if h.ca, err = stringsOf(t.CA); err != nil {
		return h, fmt.Errorf("ca: %w", err)
	}
	for i := range h.ca {
		h.ca[i] = within(dir, h.ca[i])
	}
	if h.client, err = pairsOf(t.Client, dir); err != nil {
		return h, fmt.Errorf("client: %w", err)
	}
	for key, value := range t.Header {
		values, err := stringsOf(value)
		if err != nil {
			return h, fmt.Errorf("header %q: %w", key, err)
		}
		if h.header == nil {
			h.header = http.Header{}
		}
		h.header[http.CanonicalHeaderKey(key)] = values
	}
	if t.DialTimeout != "" {
		if h.dialTimeout, err = time.ParseDuration(t.DialTimeout); err != nil || h.dialTimeout <= 0 {
			return h, fmt.Errorf("dial_timeout %q is not a time such as 3s", t.DialTimeout)
		}
	}
	return h, nil
}

// parseServer reads the address of a server. Unless override is set its path
// ends in /v2, written or not.
func parseServer(server string, override bool) (hostConf, error) {
	address, bare := server, !strings.Contains(server, "://")
	if bare {
		address = "https://" + server
	}
	u, err := url.Parse(address)
	if err != nil {
		return hostConf{}, errors.New("this is not an address")
	}
	if u.Scheme != "http" && u.Scheme != "https" || !hostPattern.MatchString(u.Host) || !portFits(u.Host) || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return hostConf{}, errors.New("an address is http:// or https://, a host, and maybe a path")
	}
	reg, err := name.NewRegistry(u.Host)
	if err != nil {
		return hostConf{}, err
	}
	h := hostConf{scheme: u.Scheme, name: reg.RegistryStr(), base: path.Clean("/" + u.EscapedPath())}
	if bare {
		h.scheme = ""
	}
	if h.base == "/" {
		h.base = ""
	}
	if !override && !strings.HasSuffix(h.base, "/v2") {
		h.base += "/v2"
	}
	h.bare = h.base != "/v2"
	return h, nil
}

// namespace is what a registry is called in hosts.toml and in ?ns=.
func namespace(registry string) string {
	if registry == name.DefaultRegistry {
		return "docker.io"
	}
	return registry
}

// cutPort splits host:port; ok is false where there is no port.
func cutPort(hostport string) (host, port string, ok bool) {
	host = hostOnly(hostport)
	if host == hostport {
		return host, "", false
	}
	i := strings.LastIndexByte(hostport, ':')
	return hostport[:i], hostport[i+1:], true
}

// stringsOf reads a value that may be one string or a list of them.
func stringsOf(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var list []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, fmt.Errorf("%v is not a string", e)
			}
			list = append(list, s)
		}
		return list, nil
	}
	return nil, fmt.Errorf("%v is neither a string nor a list of strings", v)
}

// pairsOf reads client certificates: a file, a list of files, or a list of
// pairs of a certificate and its key.
func pairsOf(v any, dir string) ([][2]string, error) {
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	var pairs [][2]string
	for _, e := range list {
		files, err := stringsOf(e)
		if err != nil {
			return nil, err
		}
		if len(files) < 1 || len(files) > 2 {
			return nil, errors.New("a pair is a certificate and its key")
		}
		key := files[len(files)-1]
		pairs = append(pairs, [2]string{within(dir, files[0]), within(dir, cmp.Or(key, files[0]))})
	}
	return pairs, nil
}

func within(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

// readMirrors reads the addresses of "registry-mirrors", Docker's mirrors of
// Docker Hub.
func readMirrors(addresses []string) ([]hostConf, error) {
	var hosts []hostConf
	for _, a := range addresses {
		h, err := parseServer(strings.TrimSuffix(a, "/"), false)
		if err == nil && h.scheme == "" {
			err = errors.New("it has neither http:// nor https://")
		}
		if err != nil {
			return nil, fmt.Errorf("registry-mirrors has %q: %w", cut(a, 100), err)
		}
		h.pull, h.resolve = true, true
		hosts = append(hosts, h)
	}
	return hosts, nil
}
