package faulty

import (
	"maps"
	"slices"
	"sync"
)

// counts is what a proxy has done so far.
type counts struct {
	sent     map[string]int64 // bytes of bodies with status 200 or 206, by blob
	requests map[Kind]int
	faults   []string
	current  int // requests that are being answered
	busiest  int // the most that current has been
}

// began counts a request that is being answered, until ended is called first.
func (p *Proxy) began() (ended func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.current++
	p.counts.busiest = max(p.counts.busiest, p.counts.current)
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.counts.current--
	})
}

// Busiest returns how many requests there have been at a time, at most. One ends
// with the last byte of its answer, or when it is noticed that the client has left.
func (p *Proxy) Busiest() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts.busiest
}

// Sent returns how many bytes of a blob have gone out, those of answers that
// are faulty or not taken by the client included.
func (p *Proxy) Sent(digest string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts.sent[digest]
}

// SentInAll returns how many bytes of all blobs have gone out.
func (p *Proxy) SentInAll() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for sent := range maps.Values(p.counts.sent) {
		n += sent
	}
	return n
}

// Requests returns how many requests of a kind there were.
func (p *Proxy) Requests(k Kind) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts.requests[k]
}

// Faults returns what has been done wrong so far, in the order of the requests.
func (p *Proxy) Faults() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.counts.faults)
}
