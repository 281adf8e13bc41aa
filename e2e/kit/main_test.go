//go:build e2e

package kit

import "testing"

func TestMain(m *testing.M) { Main(m) }
