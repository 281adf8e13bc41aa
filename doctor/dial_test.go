package doctor

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/fastpull/fastpull/internal/need"
)

// TestDialOnce has a dockerd that takes connections and says nothing.
func TestDialOnce(t *testing.T) {
	need.Time(t, "it waits for a socket that says nothing")
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := newFakeProc(t)
	p.link("10/root", "/")
	e := &exam{Options: Options{proc: string(p.procfs)}}
	engine := &process{pid: 10, comm: "dockerd", args: []string{"dockerd", "-H", "unix://" + socket}}
	asked := make(chan struct{}, 10)
	go func() {
		for {
			if _, err := l.Accept(); err != nil {
				close(asked)
				return
			}
			asked <- struct{}{}
		}
	}()
	for i := range 3 {
		begun := time.Now()
		if _, err := e.dial(t.Context(), engine); err == nil {
			t.Error("it answers")
		}
		if took := time.Since(begun); i > 0 && took > dialTime/2 {
			t.Errorf("it was asked once more, for %v", took)
		}
	}
	l.Close()
	n := 0
	for range asked {
		n++
	}
	if n == 0 || n > 2 { // the client may open a second connection for its one question
		t.Errorf("it was asked %d times", n)
	}
}
