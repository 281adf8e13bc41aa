package doctor

import (
	"context"

	"github.com/fastpull/fastpull/destination"
	"github.com/fastpull/fastpull/destination/all"
)

// places has each destination check this machine.
func places(ctx context.Context, e *exam) {
	m := destination.ThisMachine(e.docker)
	for _, d := range all.Checks() {
		for _, f := range d.Check(ctx, m, e.Places[d.Name]) {
			e.found(Finding{Area: Places, What: f.What, Level: f.Level, Text: f.Text, Fix: f.Fix})
		}
	}
}
