package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/pflag"

	"github.com/fastpull/fastpull/destination/all"
)

// partialUsage are the help texts of the flags of prune that name a containerd.
var partialUsage = map[string]string{
	"containerd":      "remove the partial blobs of pulls into the containerd at the socket `ADDRESS`, and\nnothing else",
	"containerd-root": "remove those of a containerd by its root directory `DIR`, and nothing else",
	"docker-root":     "remove those of a Docker 29 by its data-root `DIR`, and nothing else",
}

// partialFlags are the values of these flags, by the names of the destinations.
type partialFlags map[string]*string

func (f *partialFlags) add(fl *pflag.FlagSet) {
	*f = make(partialFlags)
	for _, d := range all.Table {
		if d.PartialDir != nil {
			(*f)[d.Name] = fl.String(d.Name, "", partialUsage[d.Name])
			fl.Lookup(d.Name).NoOptDefVal = d.Alone
		}
	}
}

// given returns the destination that was named, nil if none was. No other flag that says what
// is to be removed goes with it.
func (f partialFlags) given(fl *pflag.FlagSet) (of *all.Entry, value string, err error) {
	others := []string{"store", "images", "staged"}
	for i := range all.Table {
		name := all.Table[i].Name
		if f[name] == nil || !fl.Changed(name) {
			continue
		}
		for _, other := range others {
			if err := notBoth(fl, name, other); err != nil {
				return nil, "", err
			}
		}
		others = append(others, name)
		of, value = &all.Table[i], *f[name]
	}
	return of, value, nil
}

// prunedPartial is what prune prints of a containerd.
type prunedPartial struct {
	Partial int   `json:"partialBlobs"`
	Freed   int64 `json:"freed"`
}

// prunePartial removes the partial blobs of pulls into a containerd, which may run.
func prunePartial(ctx context.Context, out io.Writer, of *all.Entry, value string, dry, asJSON bool) error {
	dir, err := of.PartialDir(ctx, value)
	if err != nil {
		return err
	}
	n, freed, err := sweepPartial(dir, dry)
	if asJSON {
		return errors.Join(err, printJSON(out, prunedPartial{n, freed}))
	}
	p := pruned{Partial: n}
	p.Freed = freed
	return errors.Join(err, printPruned(out, p, dry))
}
