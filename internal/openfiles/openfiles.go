// Package openfiles divides the files that the process may open among the things that a
// run does at a time. The limit is RLIMIT_NOFILE. Package os has raised the soft limit to
// the hard one when a Go program starts.
package openfiles

import (
	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/fault"
)

// A run has up to spare files open that belong to no layer and no connection, such as standard
// streams, locks and directories of the destination. A layer takes up to perLayer: its partial
// blob, its metadata, and the directory and the file that are written. Half of the rest is for
// layers and half for connections.
const (
	spare    = 32
	perLayer = 4
	least    = spare + 2*perLayer
)

// Limit returns how many files the process may have open at a time.
func Limit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return unlimited
	}
	return int(min(l.Cur, unlimited))
}

const unlimited = 1 << 20

// Check returns an error if the limit is too low for one layer at a time.
func Check() error { return check(Limit()) }

func check(limit int) error {
	if limit >= least {
		return nil
	}
	return fault.WithHint(fault.New(fault.Usage, "the process may open %d files, and needs %d at least", limit, least),
		"raise the limit: ulimit -Hn in a shell, LimitNOFILE= of systemd, --ulimit nofile= of docker run")
}

// Layers returns how many layers to work on at a time, of a number wanted.
func Layers(wanted int) int { return layers(Limit(), wanted) }

func layers(limit, wanted int) int { return max(1, min(wanted, (limit-spare)/2/perLayer)) }

// Connections returns how many connections to have at a time, of a number wanted.
func Connections(wanted int) int { return connections(Limit(), wanted) }

func connections(limit, wanted int) int { return max(1, min(wanted, (limit-spare)/2)) }
