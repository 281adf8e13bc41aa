package dockerroot

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/overlay"
)

// rounds is how often [Mend] repairs and verifies: once for known damage, once for damage that
// the repaired configs reveal, and once to verify.
const rounds = 3

// Mend repairs the damage that v lists, and then verifies the store again by calling verify. It
// repeats both, up to three times, until there is no damage or nothing more can be repaired.
//
// verify gets the chainIDs of good layers, which it need not read again. after is the result of
// the last verification. unmended says why the remaining damage could not be repaired.
func Mend(ctx context.Context, o RepairOptions, v overlay.Verified, verify func(good map[digest.Digest]bool) (overlay.Verified, error)) (m Mended, after overlay.Verified, unmended, err error) {
	m = Mended{Configs: []digest.Digest{}, Layers: []digest.Digest{}}
	for range rounds {
		var round Mended
		round, unmended = Repair(ctx, o, v.Damages)
		if ctx.Err() != nil {
			return m, v, nil, context.Cause(ctx)
		}
		m.Configs, m.Layers = append(m.Configs, round.Configs...), append(m.Layers, round.Layers...)
		m.Fetched += round.Fetched
		if len(round.Configs)+len(round.Layers) == 0 {
			return m, v, unmended, nil
		}
		again, err := verify(v.Good)
		if err != nil {
			return m, v, nil, err
		}
		for chain := range v.Good {
			again.Good[chain] = true
		}
		again.Layers, again.Bytes = max(again.Layers, v.Layers), again.Bytes+v.Bytes
		if v = again; len(v.Damages) == 0 {
			return m, v, nil, nil
		}
	}
	return m, v, unmended, nil
}
