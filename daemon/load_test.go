package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/testkit"
)

func TestLoad(t *testing.T) {
	image := make([]byte, 3<<20+12345)
	rand.NewChaCha8([32]byte{1}).Read(image)
	var got []byte
	var query, contentType string
	e := dialFake(t, &fake{load: func(w http.ResponseWriter, r *http.Request) {
		query, contentType = r.URL.RawQuery, r.Header.Get("Content-Type")
		got, _ = io.ReadAll(r.Body)
		say(w, `{"status":"Loading layer","progressDetail":{"current":32768,"total":65536},"progress":"[==>  ]","id":"1a2b3c4d5e6f"}`)
		say(w, `{"status":"Loading layer","progressDetail":{"current":65536,"total":65536},"id":"1a2b3c4d5e6f"}`)
		say(w, `{"status":"something new","progressDetail":{}}`)
		say(w, `{"stream":"Loaded image: img:tag\n"}`)
	}})

	var sent int64
	var unpacked []string
	err := e.Load(t.Context(), iotest.HalfReader(bytes.NewReader(image)), Watch{
		Sent: func(n int64) { sent += n },
		Unpacking: func(layer string, done, total int64) {
			unpacked = append(unpacked, fmt.Sprint(layer, " ", done, "/", total))
		},
		Stalled: func(time.Duration) { t.Error("stalled") },
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, image) {
		t.Errorf("the Engine got %d bytes that are not the image's %d", len(got), len(image))
	}
	if sent != int64(len(image)) {
		t.Errorf("Sent told of %d bytes of %d", sent, len(image))
	}
	if want := []string{"1a2b3c4d5e6f 32768/65536", "1a2b3c4d5e6f 65536/65536"}; !slices.Equal(unpacked, want) {
		t.Errorf("Unpacking told %q, want %q", unpacked, want)
	}
	if query != "quiet=0" || contentType != "application/x-tar" {
		t.Errorf("asked with %q, %q", query, contentType)
	}
	if err := e.Load(t.Context(), strings.NewReader(""), Watch{}); err != nil {
		t.Errorf("with a zero Watch: %v", err)
	}
}

func TestLoadErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		load http.HandlerFunc
		want string
		kind fault.Kind
		hint string
		is   error
	}{
		{
			name: "in the stream",
			load: func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				say(w, `{"status":"Loading layer","progressDetail":{"current":1,"total":2},"id":"x"}`)
				say(w, `{"errorDetail":{"message":"invalid diffID"},"error":"invalid diffID"}`)
			},
			want: "invalid diffID", kind: fault.Failed,
		}, {
			name: "in the stream, old form",
			load: func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				say(w, `{"error":"no good"}`)
			},
			want: "no good", kind: fault.Failed,
		}, {
			name: "a layer went away",
			load: func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				say(w, `{"errorDetail":{"message":"open /d/tmp/docker-import-7/l.tar: no such file or directory"}}`)
			},
			want: "not in the archive", kind: fault.Failed, hint: "again", is: ErrLayerMissing,
		}, {
			name: "not unpacked",
			load: func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				say(w, `{"stream":"Loaded image: img:tag\n"}`)
				say(w, `{"stream":"Error unpacking image img:tag: failed to mount overlay: permission denied\n"}`)
				say(w, `{"stream":"Loaded image: other:tag\n"}`)
			},
			want: "Error unpacking image img:tag: failed to mount", kind: fault.Failed,
		}, {
			name: "a layer is not in containerd's store",
			load: func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				say(w, `{"stream":"Error unpacking image x: failed to get reader from content store: content digest sha256:1: not found\n"}`)
			},
			want: "not in the archive", kind: fault.Failed, hint: "again", is: ErrLayerMissing,
		}, {
			name: "full disk",
			load: func(w http.ResponseWriter, r *http.Request) {
				say(w, `{"error":"write /x: no space left on device"}`)
			},
			want: "no space left", kind: fault.Failed, hint: "room for the image twice",
		}, {
			name: "refused by status",
			load: func(w http.ResponseWriter, r *http.Request) { fail(w, http.StatusForbidden, "plugin says no") },
			want: "plugin says no", kind: fault.Denied,
		}, {
			name: "no API there",
			load: func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
			want: "404 page not found", kind: fault.NotFound,
		}, {
			name: "broken off before an answer",
			load: func(w http.ResponseWriter, r *http.Request) {
				io.CopyN(io.Discard, r.Body, 1<<20)
				panic(http.ErrAbortHandler)
			},
			want: "broke off", kind: fault.Failed, hint: "log",
		}, {
			name: "broken off in a message",
			load: func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, `{"status":"Loading la`)
				http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			},
			want: "broke off", kind: fault.Failed, hint: "log", is: io.ErrUnexpectedEOF,
		}, {
			name: "not JSON",
			load: func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				say(w, `<html>`)
			},
			want: "invalid character", kind: fault.Failed,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := dialFake(t, &fake{load: tc.load})
			err := e.Load(t.Context(), io.LimitReader(zeros{}, 4<<20), Watch{})
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), e.String()) {
				t.Fatalf("got %v, want %q of %s", err, tc.want, e)
			}
			if got := fault.KindOf(err); got != tc.kind {
				t.Errorf("kind %d, want %d", got, tc.kind)
			}
			if got := fault.HintOf(err); !strings.Contains(got, tc.hint) {
				t.Errorf("hint %q, want %q", got, tc.hint)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is not %v", err, tc.is)
			}
		})
	}
}

// An Engine that refuses a load answers while the archive is still being sent,
// and hangs up. Its words must come through each time, not the broken pipe.
func TestLoadRefusedEarly(t *testing.T) {
	f := &fake{}
	srv := httptest.NewServer(f)
	defer srv.Close()
	hosts := []string{testkit.ServeSocket(t, f), "tcp://" + srv.Listener.Addr().(*net.TCPAddr).String()}
	for _, tc := range []struct {
		name string
		load http.HandlerFunc
	}{
		{"status", func(w http.ResponseWriter, r *http.Request) { fail(w, http.StatusInternalServerError, "disk on fire") }},
		{"stream", func(w http.ResponseWriter, r *http.Request) { say(w, `{"error":"disk on fire"}`) }},
		{"stream, later", func(w http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, 2<<20)
			say(w, `{"error":"disk on fire"}`)
		}},
		{"and closes the connection at once", func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			const text = `{"message":"disk on fire"}`
			fmt.Fprintf(conn, "HTTP/1.1 500 Error\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}},
	} {
		f.load = tc.load
		for _, host := range hosts {
			e, err := Connect(t.Context(), Options{Host: host})
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				err := e.Load(t.Context(), zeros{}, Watch{})
				if err == nil || !strings.Contains(err.Error(), "disk on fire") {
					t.Fatalf("%s, %s: %v", tc.name, host, err)
				}
			}
			e.Close()
		}
	}
}

// A source that fails ends the load with its own error, at once: here the
// Engine takes nothing, and would not notice.
func TestLoadSourceFails(t *testing.T) {
	release := make(chan struct{})
	e := dialFake(t, &fake{load: func(w http.ResponseWriter, r *http.Request) { <-release }})
	defer close(release)
	broken := errors.New("registry went away")
	err := e.Load(t.Context(), io.MultiReader(io.LimitReader(zeros{}, 1000), iotest.ErrReader(broken)), Watch{})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "read the image to load into") {
		t.Errorf("got %v", err)
	}
}

// A connection that the Engine has closed while it was idle is no error.
func TestLoadAfterIdle(t *testing.T) {
	f := &fake{load: func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }}
	srv := httptest.NewServer(f)
	defer srv.Close()
	e, err := Connect(t.Context(), Options{Host: srv.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for range 20 {
		srv.CloseClientConnections()
		if err := e.Load(t.Context(), strings.NewReader("tar"), Watch{}); err != nil {
			t.Fatal(err)
		}
	}
}

// Closer reports whether it was closed.
type closer struct {
	io.Reader
	closed bool
}

func (c *closer) Close() error {
	c.closed = true
	return nil
}

func TestLoadCloses(t *testing.T) {
	for _, answer := range []string{`{"stream":"Loaded image: x"}`, `{"error":"no"}`} {
		e := dialFake(t, &fake{load: func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			say(w, "%s", answer)
		}})
		c := &closer{Reader: strings.NewReader("tar")}
		e.Load(t.Context(), c, Watch{})
		if !c.closed {
			t.Errorf("%s: the source was not closed", answer)
		}
	}
}
