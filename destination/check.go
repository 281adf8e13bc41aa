package destination

import (
	"context"
	"os"

	"github.com/fastpull/fastpull/daemon"
	"github.com/fastpull/fastpull/internal/privilege"
)

// Machine describes this machine for the checks of destinations. A check finds out what would
// not work here. It changes nothing: it tries things in a temporary directory, with package
// checkup.
type Machine struct {
	// TempDir is where a run keeps what is on its way.
	TempDir string
	// Rights are those of the process.
	Rights privilege.Process
	// Engine returns the Docker Engine that a run would load into, or why there is none.
	// It asks once, however often it is called.
	Engine func(context.Context) (*daemon.Engine, error)
	// Named says that the user has named the Engine.
	Named bool
}

// ThisMachine returns what is known of this machine.
func ThisMachine(engine func(context.Context) (*daemon.Engine, error)) *Machine {
	return &Machine{TempDir: TempDir(), Rights: privilege.Current(), Engine: engine, Named: os.Getenv("DOCKER_HOST") != ""}
}
