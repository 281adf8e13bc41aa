//go:build cgo && !exclude_graphdriver_btrfs

package podman

import (
	"context"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/fault"
	"github.com/fastpull/fastpull/internal/checkup"
)

// Default is the graph root that Podman itself would use.
const Default = "default"

// Open fails: with cgo, the library needs the headers of btrfs, for a driver that fastpull
// does not use. Programs are built without cgo, and tests with a tag.
func Open(context.Context, *destination.Env, string) (destination.Destination, error) {
	return nil, fault.WithHint(fault.New(fault.Failed, "this fastpull was built without Podman's store"),
		"build it with CGO_ENABLED=0, or with -tags exclude_graphdriver_btrfs")
}

// Used returns "".
func Used(context.Context) (root string, err error) { return "", nil }

// Check finds that there is no Podman in this build.
func Check(context.Context, *destination.Machine, string) []checkup.Finding {
	return []checkup.Finding{{What: "Podman's store (--podman)", Level: checkup.Unknown, Text: "this fastpull was built without it"}}
}
