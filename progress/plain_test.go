package progress

import (
	"testing"
	"time"
)

func TestPlain(t *testing.T) {
	r := new(recorder)
	inBubble(t, Options{Mode: Plain, Out: r}, func(t *testing.T, d *Display) {
		d.Note("pulling alpine:3.20")
		a, b := d.Task(digest("a"), 60_000_000), d.Task(digest("b"), 10_000_000)
		c, e := d.Task(digest("c"), 5_000_000), d.Task("app:v1", 0)
		b.Phase(Exists)
		a.Phase(Downloading)
		step(12*time.Second, 5_000_000, a)
		a.Phase(Extracting)
		a.Phase(Done)
		c.Phase(Downloading)
		c.Phase(Failed)
		d.Warn("mirror\x1b[2J gone")
		e.Phase(Sending)
		e.SetTotal(1_000_000)
		step(10*time.Second, 50_000, e)
		step(20*time.Second, 0)
		e.Phase(Loading)
		step(10*time.Second, 0)
		e.Phase(Done)
		step(time.Minute, 0) // nothing is open: nothing to say
		d.Task("late", 1)
		d.Close()
	})
	equal(t, "transcript", r.String(), `
pulling alpine:3.20
bbbbbbbbbbbb exists
aaaaaaaaaaaa downloading 60.0 MB
total: 50.5 MB, 5.0 MB/s, 1 exist, 2 waiting, 1 downloading
aaaaaaaaaaaa done        60.0 MB in 12 s
cccccccccccc downloading 5.0 MB
cccccccccccc failed
warning: mirror\x1b[2J gone
app:v1       sending
total: 60.0/60.0 MB (100%), 49.2 kB/s, 1 done, 1 exist, 1 failed, 1 sending
total: 60.0/60.0 MB (100%), 1 done, 1 exist, 1 failed, 1 sending
total: 60.0/60.0 MB (100%), no byte for 18 s, 1 done, 1 exist, 1 failed, 1 sending
app:v1       loading
total: 60.0/60.0 MB (100%), 1 done, 1 exist, 1 failed, 1 loading
app:v1       done        500.0 kB in 40 s
total: 60.0 MB in 1 min 52 s (535.7 kB/s), 2 done, 1 exist, 1 failed, 1 not finished
`[1:])
}

func TestPlainNothing(t *testing.T) {
	r := new(recorder)
	inBubble(t, Options{Mode: Plain, Out: r}, func(t *testing.T, d *Display) {
		d.Note("only this")
		step(time.Minute, 0)
	})
	equal(t, "transcript", r.String(), "only this\n")
}

func TestPlainAllExist(t *testing.T) {
	r := new(recorder)
	inBubble(t, Options{Mode: Plain, Out: r}, func(t *testing.T, d *Display) {
		d.Task("a", 5).Phase(Exists)
		d.Task("b", 5).Phase(Exists)
		d.Close()
	})
	equal(t, "transcript", r.String(), "a            exists\nb            exists\ntotal: 2 exist\n")
}
