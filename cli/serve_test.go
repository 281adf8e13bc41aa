package cli

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ending is an output that ends the program when it has said something.
type ending struct {
	*bytes.Buffer
	say string
	end func()
}

func (e *ending) Write(p []byte) (int, error) {
	n, err := e.Buffer.Write(p)
	if strings.Contains(e.String(), e.say) {
		e.end()
	}
	return n, err
}

// TestServeSays has what serve says be of use: an address that others can fill in where
// it listens at all, and a warning where the bundle has not all of its layers.
func TestServeSays(t *testing.T) {
	host, dir := startRegistry(t), t.TempDir()
	base, more := filepath.Join(dir, "base.tar"), filepath.Join(dir, "more.tar")
	for _, args := range [][]string{
		{"bundle", "-o", base, host + "/base:1"}, {"bundle", "-o", more, "--since", base, host + "/app:1"},
	} {
		if code, _, errs := run(t.Context(), nil, args...); code != 0 {
			t.Fatal(errs)
		}
	}
	for _, tc := range []struct {
		file, listen, say string
		warns             bool
	}{
		{base, "127.0.0.1:0", "  docker pull 127.0.0.1:", false},
		{more, ":0", "  docker pull HOST:", true},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var o, e bytes.Buffer
		Main(ctx, []string{"serve", "--listen", tc.listen, tc.file}, Streams{Out: &ending{&o, tc.say, cancel}, Err: &e})
		cancel()
		out, errs := o.String(), e.String()
		if !strings.Contains(out, tc.say) || strings.Contains(out, "pull [") {
			t.Errorf("it says %q, want %q; %q", out, tc.say, errs)
		}
		if strings.Contains(errs, "bundle --since") != tc.warns {
			t.Errorf("warnings: %q", errs)
		}
	}
}
