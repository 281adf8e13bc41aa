// Command distribution is the registry of github.com/distribution/distribution, which
// Docker calls registry:3. It is built without the drivers for the storage of clouds, which
// are most of what its own program is compiled of.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"

	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
)

func main() {
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1) // it has said why
	}
}
