package homedir

import (
	"os/user"
	"path/filepath"
	"testing"
)

func TestFind(t *testing.T) {
	t.Setenv("HOME", "/some/where")
	if dir, err := Find(); dir != "/some/where" || err != nil {
		t.Errorf("%q, %v", dir, err)
	}
	u, err := user.Current()
	for _, value := range []string{"", ".", "here"} {
		t.Setenv("HOME", value)
		dir, found := Find()
		switch {
		case err == nil && filepath.IsAbs(u.HomeDir) && (dir != u.HomeDir || found != nil):
			t.Errorf("HOME=%s: %q, %v; want %s", value, dir, found, u.HomeDir)
		case dir != "" && !filepath.IsAbs(dir), dir == "" && found == nil:
			t.Errorf("HOME=%s: %q, %v", value, dir, found)
		}
	}
}
