package decode

import "sync"

// Cores are the processor cores that the layers of a run share. If there are fewer layers than
// cores, a layer may decode ahead on the idle cores. A layer counts as two cores: one decodes
// it, and the other hashes and writes the plain bytes, which takes about as long.
//
// Cores are safe for concurrent use. A nil Cores has no idle cores.
type Cores struct {
	all   int
	mu    sync.Mutex
	taken int // by layers; more than all if there are many layers
	ahead int // by goroutines that decode ahead
}

// NewCores returns n cores.
func NewCores(n int) *Cores { return &Cores{all: n} }

// n returns the number of cores, idle or not.
func (c *Cores) n() int {
	if c == nil {
		return 0
	}
	return c.all
}

// ofLayer is how many cores one layer takes.
const ofLayer = 2

// layer takes the cores of a layer. done gives them back, and must be called once.
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

// idle takes a core that no layer needs. done gives it back. It is nil if no core is idle.
func (c *Cores) idle() (done func()) { return c.take(true) }

// any takes a core, even if a layer needs it. done is nil if all cores decode ahead already.
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
