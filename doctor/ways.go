package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/fastpull/fastpull/internal/checkup"
	"github.com/fastpull/fastpull/registry/probe"
)

// unresolved says why a name has no address.
func unresolved(s probe.Server) Finding {
	f := Finding{Area: Registry, What: "name", Level: Problem}
	name := hostname(s.Host)
	if s.Proxy != "" {
		name = hostname(s.Proxy)
	}
	var dns *net.DNSError
	if errors.As(s.Err, &dns) && dns.IsNotFound {
		f.Text = fmt.Sprintf("%s is a name that does not resolve: the DNS knows no such host", name)
	} else {
		f.Text = fmt.Sprintf("%s could not be looked up: the DNS of this machine does not answer as it should (%v)", name, s.Err)
	}
	f.Fix = []string{
		"getent hosts " + name + "   # what this machine makes of the name; is it spelt right?",
		"cat /etc/resolv.conf   # the DNS that it asks",
	}
	if name == "docker.io" || strings.HasSuffix(name, ".docker.io") {
		// Its addresses change, and it sends to other hosts.
		f.Fix = append(f.Fix, "fastpull bundle -o FILE IMAGE   # without Internet: elsewhere, and here: fastpull load FILE")
	} else {
		f.Fix = append(f.Fix, "echo 'ADDRESS "+name+"' | sudo tee -a /etc/hosts   # if it is known and the DNS cannot be mended")
	}
	return f
}

// unconnected says why there is no connection.
func unconnected(s probe.Server) Finding {
	f := Finding{Area: Registry, What: "connection", Level: Problem}
	where := s.Host
	var op *net.OpError
	if proxied := s.Proxy != "" && errors.As(s.Err, &op) && op.Op == "proxyconnect"; proxied {
		where = "the proxy " + s.Proxy
		f.Fix = []string{"export NO_PROXY=\"$NO_PROXY," + hostname(s.Host) + "\"   # if the registry needs no proxy"}
	}
	switch {
	case errors.Is(s.Err, syscall.ECONNREFUSED):
		f.Text = fmt.Sprintf("nothing listens at %s: the connection was refused; the port may be wrong, or the registry not run", where)
	case timedOut(s.Err):
		f.Text = fmt.Sprintf("%s does not answer at all: a firewall may swallow what is sent, or the machine be off", where)
	case errors.Is(s.Err, syscall.EHOSTUNREACH), errors.Is(s.Err, syscall.ENETUNREACH):
		f.Text = fmt.Sprintf("there is no way to %s from here: %v", where, s.Err)
	default:
		f.Text = fmt.Sprintf("no connection to %s: %s", where, checkup.Plain(s.Err))
	}
	return f
}

// timedOut reports whether an error is that nothing happened for too long.
func timedOut(err error) bool {
	var slow net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &slow) && slow.Timeout()
}

// hostname returns a host without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}
