package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// one is a handler of a single blob, which is at /v2/img/blobs/.
func one(data []byte) (h *Handler, path string) {
	d := digest.FromBytes(data)
	return &Handler{from: contents{d: inMemory(data)}, repos: map[string]*repository{"img": {}}}, "/v2/img/blobs/" + d.String()
}

// contents are blobs, and no manifests.
type contents map[digest.Digest]blob

func (c contents) Manifest(context.Context, digest.Digest) (blob, string, error) {
	return blob{}, "", errors.New("no")
}

func (c contents) Blob(_ context.Context, d digest.Digest) (blob, error) { return c[d], nil }

// TestSilent closes connections of clients that do not send what they have begun.
func TestSilent(t *testing.T) {
	h, path := one(nil)
	lim := usual
	lim.head, lim.idle = 300*time.Millisecond, 300*time.Millisecond
	addr := start(t, h, lim, nil)
	for _, sent := range []string{
		"", "GET /v2/ HTTP/1.1\r\nHost:",
		"GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n", // and nothing more
		"GET " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"PUT " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx",
		"POST /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, sent)
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) || err != nil && err.(net.Error).Timeout() {
			t.Errorf("%q: the connection stays open", sent)
		}
		c.Close()
	}
}

// TestStall drops a client that takes nothing, which does not hold up others.
func TestStall(t *testing.T) {
	closed := make(chan struct{})
	data := make([]byte, 16<<20)
	d := digest.FromBytes(data)
	first := true
	h := &Handler{repos: map[string]*repository{"img": {}}, from: contents{d: blob{int64(len(data)), func(off int64) (io.ReadCloser, error) {
		r := &told{Reader: bytes.NewReader(data[off:])}
		if first { // opened by the client that takes nothing
			r.closed, first = closed, false
		}
		return r, nil
	}}}}
	lim := usual
	lim.stall = 2 * time.Second
	host := start(t, h, lim, nil)
	slow, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	io.WriteString(slow, "GET /v2/img/blobs/"+d.String()+" HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.ReadFull(slow, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if got := get(t, "http://"+host+"/v2/img/blobs/"+d.String(), ""); !bytes.Equal(got, data) {
		t.Errorf("meanwhile another client gets %d bytes that are others", len(got))
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for ever")
	}
}

// TestStallRefused drops a client that takes none of the refusals that it gets.
func TestStallRefused(t *testing.T) {
	d := digest.FromString("blob")
	begun, end := make(chan struct{}), make(chan struct{})
	h := &Handler{repos: map[string]*repository{"img": {}}, from: contents{d: blob{4, func(int64) (io.ReadCloser, error) {
		close(begun)
		<-end
		return nil, errors.New("the test is over")
	}}}}
	lim := usual
	lim.stall, lim.patience = 2*time.Second, 0
	lim.blobs = bound{1, 1}
	host := start(t, h, lim, nil)
	defer close(end)
	request := []byte("GET /v2/img/blobs/" + d.String() + " HTTP/1.1\r\nHost: x\r\n\r\n")
	dial := func() net.Conn {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	if _, err := dial().Write(request); err != nil { // has the only place
		t.Fatal(err)
	}
	<-begun
	slow, many := dial(), bytes.Repeat(request, 1000)
	if err := slow.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil {
		_, err = slow.Write(many)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("it waits for ever")
	}
}

// told tells when it is closed.
type told struct {
	io.Reader
	closed chan struct{}
}

func (r *told) Close() error {
	if r.closed != nil {
		close(r.closed)
	}
	return nil
}
