package registry

import (
	"context"
	"sync"
)

// sources is where a blob is to be had. All connections that bring parts of it
// go to the same host, the first one that has not failed.
type sources struct {
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
		s.hosts = hosts
	}
	return s.hosts[s.at], nil
}

// known returns the host to ask, or nil as long as nobody has asked for it.
func (s *sources) known() *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hosts == nil {
		return nil
	}
	return s.hosts[s.at]
}

// leave gives up h for the next one, and tells if there is one to be asked now.
func (s *sources) leave(h *host) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.hosts) == 0 || h == nil {
		return false
	}
	if s.hosts[s.at] != h {
		return true // somebody was faster
	}
	if s.at == len(s.hosts)-1 {
		return false
	}
	s.at++
	return true
}

// distrust notes, of all hosts that were asked, that their ranges are not what
// they seem.
func (s *sources) distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.hosts {
		if i <= s.at {
			s.hosts[i].noRanges.Store(true)
		}
	}
}
