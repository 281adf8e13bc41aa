// Package homedir finds the user's home directory.
package homedir

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
)

// Find returns the home directory of the process's user: $HOME, or where that is not set, as
// in a system service, what /etc/passwd has. The path is absolute. A relative one would lead
// to files in the working directory, which can be another user's.
func Find() (string, error) {
	if dir := os.Getenv("HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find the home directory: $HOME is not set: %w", err)
	}
	if !filepath.IsAbs(u.HomeDir) {
		return "", errors.New("find the home directory: $HOME is not set, and /etc/passwd has none")
	}
	return u.HomeDir, nil
}
