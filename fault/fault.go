// Package fault gives an error the two things a user needs beside its words:
// what kind of failure it is, which becomes the exit code, and what can be
// done about it, which is printed as a hint.
//
// Every package of fastpull reports with it where it knows one of the two; an
// error that nobody classified is of kind [Failed] and has no hint. Errors are
// wrapped as usual (%w), and the kind nearest to the top wins, so that a
// caller who knows better may say so.
package fault

import (
	"errors"
	"fmt"
)

// Kind tells failures apart the way a script has to.
type Kind int

// The kinds of failure. Their values are the exit codes of the command and
// part of its interface: they do not change.
const (
	// Failed is everything that is none of the others.
	Failed Kind = 1
	// Usage is a call that cannot be meant: unknown flags, a reference that
	// does not parse, options that exclude each other.
	Usage Kind = 2
	// NotFound is an image, a tag, a platform or a file that is not there.
	NotFound Kind = 3
	// Denied is a request that needs other credentials or rights.
	Denied Kind = 4
	// Corrupt is content that is not what its digest, size or format says.
	Corrupt Kind = 5
)

type fault struct {
	kind Kind
	hint string
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// New returns an error of the given kind. Format and args are those of
// [fmt.Errorf], %w included.
func New(kind Kind, format string, args ...any) error {
	return &fault{kind: kind, err: fmt.Errorf(format, args...)}
}

// Wrap returns err with the given kind, or nil if err is nil.
func Wrap(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &fault{kind: kind, err: err}
}

// WithHint returns err with a sentence that tells the user what to do; nil
// stays nil. The words of the error do not change, [HintOf] finds the hint.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &fault{hint: fmt.Sprintf(format, args...), err: err}
}

// KindOf returns the kind of err: the first one on the way down its chain,
// and [Failed] if there is none. It returns 0 for a nil error.
func KindOf(err error) Kind {
	if err == nil {
		return 0
	}
	for f := (*fault)(nil); errors.As(err, &f); err = f.err {
		if f.kind != 0 {
			return f.kind
		}
	}
	return Failed
}

// HintOf returns the hint of err, the first one on the way down its chain, or
// the empty string.
func HintOf(err error) string {
	for f := (*fault)(nil); errors.As(err, &f); err = f.err {
		if f.hint != "" {
			return f.hint
		}
	}
	return ""
}
