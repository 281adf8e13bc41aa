package critical

import (
	"testing"
	"testing/synctest"
)

// TestWait waits for all sections, and for none if none is open.
func TestWait(t *testing.T) {
	Wait()
	synctest.Test(t, func(t *testing.T) {
		one, two := Enter(), Enter()
		done := make(chan struct{})
		go func() { Wait(); close(done) }()
		for _, leave := range []func(){one, one, two} { // the second call does nothing
			synctest.Wait()
			select {
			case <-done:
				t.Fatal("Wait returns while a section is open")
			default:
			}
			leave()
		}
		<-done
	})
}
