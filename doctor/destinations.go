package doctor

import (
	"context"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/destination/all"
)

// destinations has each destination check this machine.
func destinations(ctx context.Context, e *exam) {
	m := destination.ThisMachine(e.docker)
	for _, d := range all.Checks() {
		for _, f := range d.Check(ctx, m, e.Destinations[d.Name]) {
			e.found(Finding{Area: Destinations, What: f.What, Level: f.Level, Text: f.Text, Fix: f.Fix})
		}
	}
}
