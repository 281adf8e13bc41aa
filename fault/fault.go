// Package fault adds to an error what a user needs beside its text: the kind of failure,
// which becomes the exit code, and a hint, which says what the user can do.
//
// [New] and [Wrap] give a kind, and [WithHint] a hint. Every package of fastpull uses them
// where it knows one of the two. An error without a kind is of kind [Failed]. Errors are
// wrapped as usual (%w). [KindOf] and [HintOf] find kind and hint by one rule:
//
//   - An outer kind or hint takes precedence over those of the errors that it wraps. So a
//     caller that knows more can override them.
//   - If an error wraps several, by [errors.Join] or more than one %w, the rule is applied to
//     each. The first kind other than [Failed] counts, since Failed says nothing. The first
//     hint counts.
//
// [Lasting] marks an error that the user has to see even if the run was interrupted.
package fault

import (
	"cmp"
	"errors"
	"fmt"
)

// Kind is a kind of failure that a script can distinguish.
type Kind int

// The kinds of failure. Their values are the exit codes of the command and
// part of its interface: they do not change.
const (
	// Failed is everything that is none of the others.
	Failed Kind = 1
	// Usage is a call that is not valid: unknown flags, a reference that does not parse,
	// options that exclude each other.
	Usage Kind = 2
	// NotFound is an image, a tag, a platform or a file that is not there.
	NotFound Kind = 3
	// Denied is a request that needs other credentials or rights.
	Denied Kind = 4
	// Corrupt is content that is not what its digest, size or format says.
	Corrupt Kind = 5
)

type fault struct {
	kind    Kind
	hint    string
	lasting bool
	err     error
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

// WithHint returns err with a hint: a sentence that says what the user can do. It returns nil if
// err is nil. The text of the error does not change; [HintOf] returns the hint.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &fault{hint: fmt.Sprintf(format, args...), err: err}
}

// Lasting returns err marked as one that the user has to see even if the run was interrupted. It
// is for work that goes on after an interrupt. It returns nil if err is nil.
func Lasting(err error) error {
	if err == nil {
		return nil
	}
	return &fault{lasting: true, err: err}
}

// LastingIn returns the errors in err that [Lasting] has marked, joined, without the words around
// them. It returns nil if there are none.
func LastingIn(err error) error {
	if f, ok := err.(*fault); ok && f.lasting {
		return err
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return LastingIn(e.Unwrap())
	case interface{ Unwrap() []error }:
		var list []error
		for _, branch := range e.Unwrap() {
			list = append(list, LastingIn(branch))
		}
		return errors.Join(list...)
	}
	return nil
}

// KindOf returns the kind of err by the rule of the package, and 0 for a nil
// error.
func KindOf(err error) Kind {
	if err == nil {
		return 0
	}
	kind, _ := search(err, func(f *fault) (Kind, bool) { return f.kind, f.kind != Failed })
	return cmp.Or(kind, Failed)
}

// HintOf returns the hint of err by the rule of the package, or "". For hints about errors of
// the operating system, see [Advice].
func HintOf(err error) string {
	hint, _ := search(err, func(f *fault) (string, bool) { return f.hint, true })
	return hint
}

// search returns the outermost value of err for which of does not return zero. If an error wraps
// several, it returns the first value that is final, or else the first value.
func search[T comparable](err error, of func(*fault) (value T, final bool)) (value T, final bool) {
	var none T
	for err != nil {
		if f, ok := err.(*fault); ok {
			if value, final = of(f); value != none {
				return value, final
			}
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, branch := range e.Unwrap() {
				v, final := search(branch, of)
				if final && v != none {
					return v, true
				}
				value = cmp.Or(value, v)
			}
			return value, false
		default:
			return none, false
		}
	}
	return none, false
}
