package serve

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Why a gate does not let a request in.
var (
	errCrowded = errors.New("this client has too many requests under way")
	errFull    = errors.New("too many requests are under way")
)

// gate bounds how many requests are answered at a time: of one client, and of all.
// Others wait for their turn, as many of a client as may be answered, and not for long.
type gate struct {
	each     int
	all      chan struct{} // has an element for each request that is let in
	patience time.Duration

	mu     sync.Mutex
	guests map[string]*guest
}

// guest is a client that has requests at a gate.
type guest struct {
	requests int           // let in or waiting
	in       chan struct{} // has an element for each that is let in, or has the next turn
}

func newGate(each, all int, patience time.Duration) *gate {
	return &gate{each: each, all: make(chan struct{}, all), patience: patience, guests: make(map[string]*guest)}
}

// enter waits until a request of a client may be answered. If there is no error, leave
// must be called when that is done. The error is errCrowded, errFull, or the end of ctx.
func (g *gate) enter(ctx context.Context, client string) (leave func(), err error) {
	c := g.arrive(client)
	if c == nil {
		return nil, errCrowded
	}
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	if err := put(ctx, c.in, timer.C, errCrowded); err != nil {
		g.depart(client, c)
		return nil, err
	}
	if err := put(ctx, g.all, timer.C, errFull); err != nil {
		<-c.in
		g.depart(client, c)
		return nil, err
	}
	return func() {
		<-g.all
		<-c.in
		g.depart(client, c)
	}, nil
}

// put adds an element to a channel when there is room for it.
func put(ctx context.Context, to chan<- struct{}, timeout <-chan time.Time, late error) error {
	select {
	case to <- struct{}{}: // also if the time is over
		return nil
	default:
	}
	select {
	case to <- struct{}{}:
		return nil
	case <-timeout:
		return late
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// arrive counts a request of a client; nil if it has too many.
func (g *gate) arrive(client string) *guest {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.guests[client]
	if c == nil {
		c = &guest{in: make(chan struct{}, g.each)}
		g.guests[client] = c
	}
	if c.requests == 2*g.each {
		return nil
	}
	c.requests++
	return c
}

func (g *gate) depart(client string, c *guest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.requests--; c.requests == 0 {
		delete(g.guests, client)
	}
}

// clientOf returns the client that has a remote address: an IPv4 address, or the first
// half of an IPv6 address, since a host has all of the other half.
func clientOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return "" // not of TCP: one client
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if half, err := ip.Prefix(64); err == nil {
			return half.String()
		}
	}
	return ip.String()
}
