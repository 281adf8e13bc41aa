// Package critical has the sections of a run that a second signal must not cut short: what
// they leave half done is worse than a wait. A section that takes long has deadlines.
package critical

import "sync"

var (
	mu   sync.Mutex
	open int
	none = sync.NewCond(&mu)
)

// Enter begins a section. The caller calls leave once, at its end.
func Enter() (leave func()) {
	mu.Lock()
	defer mu.Unlock()
	open++
	return sync.OnceFunc(func() {
		mu.Lock()
		defer mu.Unlock()
		if open--; open == 0 {
			none.Broadcast()
		}
	})
}

// Wait returns when no section is open.
func Wait() {
	mu.Lock()
	defer mu.Unlock()
	for open > 0 {
		none.Wait()
	}
}
