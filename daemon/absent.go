package daemon

import (
	"errors"
	"io/fs"
	"net"
)

// Absent reports whether an error of [Connect] says that there is no Engine at all: its
// socket does not exist.
func Absent(err error) bool {
	var dial *net.OpError
	return errors.Is(err, ErrUnavailable) && errors.As(err, &dial) && errors.Is(err, fs.ErrNotExist)
}
