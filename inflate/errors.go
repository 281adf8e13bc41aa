package inflate

import (
	"errors"
	"fmt"
)

// What can be wrong with the input, to be asked for with [errors.Is]. An input
// that ends too early is [io.ErrUnexpectedEOF].
var (
	// ErrCorrupt is an input that no compressor writes.
	ErrCorrupt = errors.New("corrupt input")
	// ErrChecksum is an input that can be decoded, but not to what its checksum
	// and size say that it was made of.
	ErrChecksum = errors.New("wrong checksum")
	// ErrPadding is zeroes behind the last member.
	ErrPadding = errors.New("zeroes behind the last member")
	// ErrJunk is something else behind the last member.
	ErrJunk = errors.New("junk behind the last member")

	errClosed = errors.New("gzip: read after Close")
)

// Error describes what is wrong with the input, and at which offset. An error of the underlying
// reader is returned unchanged, and is not an Error.
type Error struct {
	// Offset is how many bytes of the input were good, or nearly: a code may
	// begin some bits or a few bytes before it.
	Offset int64
	// Err is one of the errors of this package, or [io.ErrUnexpectedEOF].
	Err error
	// Reason says more, if there is more to say.
	Reason string
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("gzip: %v at byte %d", e.Err, e.Offset)
	}
	return fmt.Sprintf("gzip: %v at byte %d: %s", e.Err, e.Offset, e.Reason)
}

func (e *Error) Unwrap() error { return e.Err }

// reason is why an input is corrupt. It is empty if it is not.
type reason string
