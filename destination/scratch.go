package destination

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/tmpfile"
)

// Scratch makes a file without a name in dir, for a layer that waits until it can be passed on.
// Fewer layers at a time would not help against too many such files: all layers of an image may
// have to wait for the first one.
func Scratch(dir string) (*tmpfile.File, error) {
	f, err := tmpfile.Scratch(dir)
	if errors.Is(err, unix.EMFILE) {
		err = fault.WithHint(err, "each layer of an image that waits for its turn has a file open: raise the limit (ulimit -Hn, LimitNOFILE= of systemd)")
	}
	return f, err
}
