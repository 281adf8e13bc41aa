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
	if HintOf(io.EOF) != "" || HintOf(nil) != "" {
		t.Error("a hint out of nowhere")
	}
	if WithHint(nil, "x") != nil || Wrap(Failed, nil) != nil {
		t.Error("nil did not stay nil")
	}
}
