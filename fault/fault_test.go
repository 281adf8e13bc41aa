package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestKindOf(t *testing.T) {
	base := New(NotFound, "no such tag: %w", io.EOF)
	for _, tc := range []struct {
		name string
		err  error
		want Kind
	}{
		{"nil", nil, 0},
		{"plain", io.EOF, Failed},
		{"direct", base, NotFound},
		{"wrapped by fmt", fmt.Errorf("pull: %w", base), NotFound},
		{"the outer kind wins", Wrap(Corrupt, base), Corrupt},
		{"a hint has no kind", WithHint(base, "look"), NotFound},
		{"a hint alone", WithHint(io.EOF, "look"), Failed},
		{"joined", errors.Join(io.EOF, base), NotFound},
		{"behind a joined hint", errors.Join(WithHint(io.EOF, "look"), New(Denied, "no")), Denied},
		{"behind a joined Failed", errors.Join(Wrap(Failed, io.EOF), New(Denied, "no")), Denied},
		{"deep in a later branch", errors.Join(WithHint(fmt.Errorf("x: %w", io.EOF), "look"), fmt.Errorf("y: %w", errors.Join(io.EOF, base))), NotFound},
		{"the second %w", fmt.Errorf("%w; then %w", WithHint(io.EOF, "look"), base), NotFound},
		{"a hint around a join", WithHint(errors.Join(WithHint(io.EOF, "look"), New(Corrupt, "bad")), "mend it"), Corrupt},
		{"Failed around a join", Wrap(Failed, errors.Join(base, New(Denied, "no"))), Failed},
		{"the first of two kinds", errors.Join(base, New(Denied, "no")), NotFound},
		{"a joined Failed alone", errors.Join(io.EOF, Wrap(Failed, io.EOF)), Failed},
	} {
		if got := KindOf(tc.err); got != tc.want {
			t.Errorf("%s: KindOf = %d, want %d", tc.name, got, tc.want)
		}
	}
	if !errors.Is(base, io.EOF) {
		t.Error("New lost the wrapped error")
	}
}

func TestHintOf(t *testing.T) {
	err := fmt.Errorf("pull: %w", Wrap(Denied, WithHint(io.EOF, "log in to %s", "host:5000")))
	if got := HintOf(err); got != "log in to host:5000" {
		t.Errorf("HintOf = %q", got)
	}
	if got := err.Error(); got != "pull: EOF" {
		t.Errorf("the hint changed the words: %q", got)
	}
	for _, tc := range []struct {
		err  error
		want string
	}{
		{errors.Join(New(Denied, "no"), WithHint(io.EOF, "look")), "look"},
		{errors.Join(io.EOF, WithHint(io.EOF, "first"), WithHint(io.EOF, "second")), "first"},
		{WithHint(errors.Join(WithHint(io.EOF, "inner")), "outer"), "outer"},
		{fmt.Errorf("%w, %w", New(NotFound, "none"), WithHint(io.EOF, "look")), "look"},
	} {
		if got := HintOf(tc.err); got != tc.want {
			t.Errorf("HintOf(%q) = %q, want %q", tc.err, got, tc.want)
		}
	}
	if HintOf(io.EOF) != "" || HintOf(nil) != "" {
		t.Error("a hint out of nowhere")
	}
	if WithHint(nil, "x") != nil || Wrap(Failed, nil) != nil {
		t.Error("nil did not stay nil")
	}
}

func TestLasting(t *testing.T) {
	hinted := Lasting(fmt.Errorf("start: %w", WithHint(New(Denied, "no"), "look")))
	for _, tc := range []struct {
		err  error
		want string // "" is none
	}{
		{nil, ""},
		{io.EOF, ""},
		{errors.Join(io.EOF, WithHint(io.EOF, "look")), ""},
		{hinted, "start: no"},
		{fmt.Errorf("x: %w", errors.Join(io.EOF, hinted)), "start: no"},
		{errors.Join(hinted, Wrap(Failed, io.EOF), Lasting(io.EOF)), "start: no\nEOF"},
	} {
		got := LastingIn(tc.err)
		if got == nil && tc.want != "" || got != nil && got.Error() != tc.want {
			t.Errorf("LastingIn(%v) = %v, want %q", tc.err, got, tc.want)
		}
	}
	if KindOf(hinted) != Denied || HintOf(hinted) != "look" {
		t.Errorf("kind %d, hint %q", KindOf(hinted), HintOf(hinted))
	}
	if Lasting(nil) != nil {
		t.Error("nil did not stay nil")
	}
}
