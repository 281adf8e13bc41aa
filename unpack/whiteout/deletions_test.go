package whiteout

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fastpull/fastpull/fault"
)

// A layer cannot fill the memory with names that it deletes.
func TestDeletionsAreBounded(t *testing.T) {
	var del Deletions
	name := strings.Repeat("x", 4000)
	n := 0
	for ; n < 1<<20; n++ {
		var err error
		switch n % 3 {
		case 0:
			err = del.Whiteout(-1, "dir", name, 0, 0)
		case 1:
			err = del.Opaque(-1, name)
		case 2:
			err = del.Implied(fmt.Sprint(name, n))
		}
		if err != nil {
			if fault.KindOf(err) != fault.Corrupt || !strings.Contains(err.Error(), "that the layer deletes") {
				t.Error(err)
			}
			break
		}
	}
	if most := maxDeletions / 4000; n > most || n < most*9/10 {
		t.Errorf("%d names were taken", n)
	}
}
