package decode

import "sync"

// Cores are shared by the layers of a run: where there are fewer layers than could
// keep the cores busy, those that are idle decode ahead in a layer. A layer counts
// for two: one decodes, and another one hashes and writes what comes of it, which
// takes about as long. It is for any number of goroutines; nil has no idle cores.
type Cores struct {
	all   int
	mu    sync.Mutex
	taken int // by layers; more than n where they are many
	ahead int // by those who decode ahead
}

// NewCores returns n cores.
func NewCores(n int) *Cores { return &Cores{all: n} }

// n is how many there are, idle or not.
func (c *Cores) n() int {
	if c == nil {
		return 0
	}
	return c.all
}

// ofLayer is how many cores one layer takes.
const ofLayer = 2

// layer takes a layer's cores. done gives them back, and must be called once.
func (c *Cores) layer() (done func()) {
	if c == nil {
		return func() {}
	}
	c.add(&c.taken, ofLayer)
	return func() { c.add(&c.taken, -ofLayer) }
}

func (c *Cores) add(to *int, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*to += n
}

// idle takes a core that no layer needs. done gives it back; it is nil where there
// is none.
func (c *Cores) idle() (done func()) { return c.take(true) }

// any takes a core if not all of them decode ahead already, whatever the layers
// need beside that.
func (c *Cores) any() (done func()) { return c.take(false) }

func (c *Cores) take(leave bool) (done func()) {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	free := c.all - c.ahead
	if leave {
		free -= c.taken
	}
	if free <= 0 {
		return nil
	}
	c.ahead++
	return sync.OnceFunc(func() { c.add(&c.ahead, -1) })
}
