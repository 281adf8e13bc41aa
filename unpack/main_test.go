package unpack

import (
	"fmt"
	"os"
	"testing"
)

// asNobody is set in the environment of the test binary when it runs itself
// again as another user.
const asNobody = "UNPACK_TEST_ROOTLESS"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 && os.Getenv(asNobody) == "" {
		fmt.Fprintln(os.Stderr, "the tests of package unpack make devices, owners and mounts: run them as root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
