package doctor

import (
	"testing"
)

func TestDebians(t *testing.T) {
	for _, c := range []struct {
		program string
		args    []string
	}{
		{"/usr/bin/unpigz", []string{"-d", "-c"}},
		{"/usr/bin/pigz", []string{"-d"}},
		{"/usr/bin/igzip", []string{"-d", "-c"}},
		{"/usr/bin/gzip", []string{"-d", "-c"}},
	} {
		s := &sandbox{env: []string{"PATH=/usr/bin"}}
		r := s.trial(t.Context(), c.program, c.args)
		t.Logf("%s: %+v", c.program, r)
	}
	t.Log(ours()/1e6, len(gz(text(1<<20, 3))))
}
