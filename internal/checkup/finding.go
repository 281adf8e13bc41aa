// Package checkup has what checks of this machine share: what they find, and ways to try
// something that leave no trace and do not wait for ever.
package checkup

import (
	"errors"
	"io/fs"

	"github.com/fastpull/fastpull/fault"
)

// Level says how serious a finding is.
type Level string

// The levels of findings.
const (
	OK      Level = "ok"
	Warning Level = "warning" // it works, but is worth knowing
	Problem Level = "problem" // it makes a pull fail or hang
	Unknown Level = "unknown" // it could not be checked
)

// Finding is one thing that was checked, and the result.
type Finding struct {
	What  string // the thing, in a few words
	Level Level
	Text  string // a sentence about it
	// Fix is what the user can do: lines to be pasted into a shell, with comments where
	// they need some.
	Fix []string
}

// Plain returns the text of an error for a finding: with its hint, and with the advice to
// use root where a right is missing.
func Plain(err error) string {
	text := err.Error()
	if hint := fault.Advice(err); hint != "" {
		text += "; " + hint
	} else if errors.Is(err, fs.ErrPermission) {
		text += "; run it as root"
	}
	return text
}
