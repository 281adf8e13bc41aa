package decode

import "testing"

func TestCores(t *testing.T) {
	c := NewCores(4)
	taken := func(take func() func()) (all []func()) {
		t.Helper()
		for done := take(); done != nil; done = take() {
			if all = append(all, done); len(all) > 4 {
				t.Fatal("there is no end of it")
			}
		}
		return all
	}
	give := func(all []func()) {
		for _, done := range all {
			done()
			done() // which changes nothing
		}
	}
	for layers, want := range []int{4, 2, 0, 0} {
		var done []func()
		for range layers {
			done = append(done, c.layer())
		}
		idle := taken(c.idle)
		if len(idle) != want {
			t.Errorf("beside %d layers %d cores are idle, want %d", layers, len(idle), want)
		}
		give(idle)
		some := taken(c.any)
		if len(some) != 4 {
			t.Errorf("beside %d layers %d cores of 4 can be taken", layers, len(some))
		}
		give(some)
		for _, done := range done {
			done()
		}
	}
	var none *Cores
	none.layer()()
	if none.idle() != nil || none.any() != nil {
		t.Error("no cores, and one is idle")
	}
}
