package cli

import "testing"

func TestSize(t *testing.T) {
	for text, want := range map[string]struct {
		n    size
		back string
	}{
		"0": {0, "0"}, "1": {1, "1"}, "1024": {1024, "1KiB"}, "1k": {1000, "1000"}, "1 MB": {1e6, "1000000"},
		"1.5MiB": {1536 << 10, "1536KiB"}, "8MiB": {8 << 20, "8MiB"}, "2G": {2e9, "1953125KiB"}, "1GiB": {1 << 30, "1GiB"}, "7B": {7, "7"},
	} {
		var s size
		if err := s.Set(text); err != nil || s != want.n || s.String() != want.back {
			t.Errorf("%q is %d (%s), %v; want %d (%s)", text, s, s.String(), err, want.n, want.back)
		}
	}
	for _, text := range []string{"", "x", "-1", "1T", "M", "NaN", "Inf", "1e30G", "1 2", "0.5", "0.99B", "0.0001k"} {
		var s size
		if err := s.Set(text); err == nil {
			t.Errorf("%q is %d", text, s)
		}
	}
}
