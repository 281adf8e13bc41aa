package faulty

import (
	"maps"
	"slices"
)

// counts is what a proxy has done so far.
type counts struct {
	sent     map[string]int64 // bytes of bodies with status 200 or 206, by blob
	requests map[Kind]int
	faults   []string
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
