//go:build e2e

package packages

import (
	"testing"

	"github.com/fastpull/fastpull/e2e/kit"
)

func TestMain(m *testing.M) { kit.Main(m) }
