package dockerroot

import (
	"context"

	"github.com/opencontainers/go-digest"

	"github.com/fastpull/fastpull/overlay"
)

// rounds is how often [Mend] repairs and looks: for what is damaged, for what the configs
// that were mended tell of, and if all is well.
const rounds = 3

// Mend repairs a store, of which v is known, and verifies it again with verify, as long as
// a round mends something. verify does not read again the layers that are good, given
// by chainID. The result is what is known of the store afterwards. unmended says why the
// rest could not be mended.
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
