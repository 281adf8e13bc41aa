package main

import (
	"os/exec"
	"testing"

	"github.com/fastpull/fastpull/internal/need"
)

// TestPackageVersion sorts versions as dpkg does.
func TestPackageVersion(t *testing.T) {
	var got []string
	for _, tc := range []struct{ described, want string }{
		{"05d2b0b", "0.0.0+05d2b0b"},
		{"05d2b0b-dirty", "0.0.0+05d2b0b.dirty"},
		{"unknown", "0.0.0+unknown"},
		{"v1.2.3-rc.1", "1.2.3-rc.1"},
		{"v1.2.3-rc.1-4-gabcdef0", "1.2.3-rc.1+4.gabcdef0"},
		{"v1.2.3", "1.2.3"},
		{"v1.2.3-9-gabcdef0", "1.2.3+9.gabcdef0"},
		{"v1.2.3-10-gabcdef0", "1.2.3+10.gabcdef0"},
		{"v1.2.3-10-gabcdef0-dirty", "1.2.3+10.gabcdef0.dirty"},
		{"v1.2.4", "1.2.4"},
	} {
		v := packageVersion(tc.described)
		if v != tc.want {
			t.Errorf("%s becomes %s, want %s", tc.described, v, tc.want)
		}
		got = append(got, debianVersion(v))
	}
	dpkg := need.Program(t, "dpkg")
	for i := range got[1:] {
		if i > 2 { // the order of those without a tag is open
			if err := exec.Command(dpkg, "--compare-versions", got[i], "lt", got[i+1]).Run(); err != nil {
				t.Errorf("dpkg does not sort %s before %s: %v", got[i], got[i+1], err)
			}
		}
	}
}
