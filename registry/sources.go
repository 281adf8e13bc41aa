package registry

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
)

// sources has the hosts of a blob. All connections for parts of the blob use the same host: the
// first that has not failed.
type sources struct {
	blob digest.Digest

	mu    sync.Mutex
	hosts []*host
	at    int
}

// current returns the host to ask.
func (s *sources) current(ctx context.Context, c *Client, ref Reference) (*host, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		hosts, err := c.endpoints(ctx, ref)
		if err != nil {
			return nil, err
		}
		s.hosts = trusted(hosts, s.blob)
	}
	return s.hosts[s.at], nil
}

// trusted puts hosts from which the blob came damaged last, and then the
// registry before its mirrors.
func trusted(hosts []*host, blob digest.Digest) []*host {
	rank := func(h *host) int {
		switch {
		case !h.damages(blob):
			return 0
		case !h.mirror:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(hosts, func(a, b *host) int { return cmp.Compare(rank(a), rank(b)) })
	return hosts
}

// known returns the host to ask, or nil if none was chosen yet.
func (s *sources) known() *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		return nil
	}
	return s.hosts[s.at]
}

// leave gives up h, which has failed with err. It reports whether another host can be asked now.
func (s *sources) leave(h *host, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.hosts) == 0 || h == nil {
		return false
	}
	if s.hosts[s.at] != h {
		return true // another connection was faster
	}
	if s.at == len(s.hosts)-1 {
		return false
	}
	h.failed(err)
	s.at++
	return true
}

// distrust notes, of all hosts that were asked, that the blob came damaged, and
// that ranges may be to blame.
func (s *sources) distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.hosts {
		if i <= s.at {
			s.hosts[i].noRanges.Store(true)
			s.hosts[i].damaged.Store(s.blob, true)
		}
	}
}
