package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fastpull/fastpull/internal/faulty"
	"github.com/fastpull/fastpull/internal/sample"
)

// roundTrip is how long a byte and its answer take on the line of the contests line/.
const roundTrip = 50 * time.Millisecond

// The contests over a line.
const (
	lineStore = "line/store" // a first pull
	lineToken = "line/token" // a first pull, from a registry that wants a token
	lineAgain = "line/again" // a second pull
)

// line carries connections to a server as if it were far away: what either side sends
// arrives half a round trip later. A connection takes a round trip to open, as by TCP.
type line struct {
	net.Listener
	to string

	mu    sync.Mutex
	conns map[net.Conn]bool
	work  sync.WaitGroup
}

// startLine starts a line to an address, on a free port of the loopback.
func startLine(to string) (*line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &line{Listener: l, to: to, conns: make(map[net.Conn]bool)}
	n.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it is closed
			}
			n.work.Go(func() { n.carry(c) })
		}
	})
	return n, nil
}

// close ends the line and its connections.
func (n *line) close() error {
	err := n.Close()
	n.mu.Lock()
	for c := range n.conns {
		c.Close()
	}
	n.mu.Unlock()
	n.work.Wait()
	return err
}

// carry carries one connection to its end.
func (n *line) carry(client net.Conn) {
	opened := time.Now().Add(roundTrip) // the kernel has done so at once
	server, err := net.Dial("tcp", n.to)
	if err != nil {
		client.Close()
		return
	}
	n.mu.Lock()
	n.conns[client], n.conns[server] = true, true
	n.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { delay(server, client, opened) })
	both.Go(func() { delay(client, server, opened) })
	both.Wait()
	n.mu.Lock()
	delete(n.conns, client)
	delete(n.conns, server)
	n.mu.Unlock()
	client.Close()
	server.Close()
}

// delay copies what comes from one end to the other, half a round trip later, and the end of
// it. Nothing is on the way before the connection is open.
func delay(to, from net.Conn, opened time.Time) {
	type piece struct {
		data []byte
		at   time.Time
	}
	way := make(chan piece, 1<<10) // of 64 KiB each: the line is not thin
	go func() {
		defer close(way)
		for {
			buf := make([]byte, 64<<10)
			k, err := from.Read(buf)
			sent := time.Now()
			if sent.Before(opened) {
				sent = opened
			}
			if k > 0 {
				way <- piece{buf[:k], sent.Add(roundTrip / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for p := range way {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.data); err != nil && !broken {
			broken = true
			from.Close() // and what still comes is read and dropped
		}
	}
	if c, ok := to.(*net.TCPConn); ok {
		c.CloseWrite()
	}
}

// farImage is the small image, at a registry that is far away, and wants a token if that is
// asked for.
func (b *bench) farImage(ctx context.Context, token bool) (*testImage, error) {
	img, err := b.source.image(ctx, small)
	if err != nil {
		return nil, err
	}
	to := b.source.registry.addr
	if token {
		p, err := faulty.Start(faulty.Options{Registry: "http://" + to, TokenLife: time.Hour})
		if err != nil {
			return nil, err
		}
		b.lines = append(b.lines, p.Close)
		to = p.Addr
	}
	n, err := startLine(to)
	if err != nil {
		return nil, err
	}
	b.lines = append(b.lines, n.close)
	far := *img
	far.ref = n.Addr().String() + strings.TrimPrefix(img.ref, b.source.registry.addr)
	return &far, nil
}

// lineContest is a pull of the small image over the line.
func (b *bench) lineContest(ctx context.Context, c *contest) error {
	img, err := b.farImage(ctx, c.name == lineToken)
	if err != nil {
		return err
	}
	for _, p := range b.builds {
		if c.name == lineAgain {
			c.entrants = append(c.entrants, b.again(p, img))
			continue
		}
		c.entrants = append(c.entrants, b.toStore(p, img))
	}
	if c.name == lineAgain {
		return nil
	}
	if slices.Contains(b.against, docker) {
		c.entrants = append(c.entrants, b.byDocker(debian, "docker pull", img, "pull", "--quiet", img.ref))
	}
	if err := b.addSkopeo(c, img); err != nil {
		return err
	}
	return b.addCrane(ctx, c, img)
}

// smallLayers are twelve layers of 4.4 MB together, which do not compress. They are the same
// each time.
func smallLayers() (list []sample.Layer) {
	const layers, size = 12, 4_400_000
	for i := range layers {
		noise := make([]byte, size/layers)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(noise) // which never fails
		list = append(list, sample.Layer{Text: map[string]string{fmt.Sprintf("opt/%d", i): string(noise)}})
	}
	return list
}
