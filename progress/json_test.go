package progress

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestJSON(t *testing.T) {
	r := new(recorder)
	inBubble(t, Options{Mode: JSON, Out: r}, func(t *testing.T, d *Display) {
		a := d.Task(digest("a"), 20_000_000)
		b := d.Task("app<1>", 0)
		a.Phase(Downloading)
		b.Phase(Exists)
		d.Note("a \"note\"\n")
		step(2*time.Second, 5_000_000, a)
		a.Phase(Waiting)
		a.Phase(Downloading) // both, though no frame was between them
		d.Warn("slow\x1b[m")
		step(22*time.Second, 0)
		a.Phase(Done)
		d.Close()
	})
	want := strings.ReplaceAll(`
{"type":"task","id":"A","phase":"waiting","done":0,"total":20000000}
{"type":"task","id":"app<1>","phase":"waiting","done":0,"total":0}
{"type":"task","id":"A","phase":"downloading","done":0,"total":20000000}
{"type":"task","id":"app<1>","phase":"exists","done":0,"total":0}
{"type":"note","text":"a \"note\""}
{"type":"total","done":500000,"total":20000000,"rate":0,"tasks":{"waiting":0,"active":1,"done":0,"exists":1,"failed":0}}
{"type":"task","id":"A","phase":"downloading","done":5500000,"total":20000000}
{"type":"total","done":5500000,"total":20000000,"rate":5000000,"eta":2.9,"tasks":{"waiting":0,"active":1,"done":0,"exists":1,"failed":0}}
{"type":"task","id":"A","phase":"waiting","done":10000000,"total":20000000}
{"type":"task","id":"A","phase":"downloading","done":10000000,"total":20000000}
{"type":"warning","text":"slow\\x1b[m"}
{"type":"total","done":10000000,"total":20000000,"rate":4750000,"eta":2.1,"tasks":{"waiting":0,"active":1,"done":0,"exists":1,"failed":0}}
{"type":"total","done":10000000,"total":20000000,"rate":0,"idle":10,"tasks":{"waiting":0,"active":1,"done":0,"exists":1,"failed":0}}
{"type":"total","done":10000000,"total":20000000,"rate":0,"idle":20,"tasks":{"waiting":0,"active":1,"done":0,"exists":1,"failed":0}}
{"type":"task","id":"A","phase":"done","done":10000000,"total":20000000}
{"type":"total","done":20000000,"total":20000000,"rate":0,"tasks":{"waiting":0,"active":0,"done":1,"exists":1,"failed":0},"final":true}
`[1:], `"A"`, `"`+digest("a")+`"`)
	equal(t, "transcript", r.String(), want)
	for line := range strings.Lines(r.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %q", line)
		}
	}
}
