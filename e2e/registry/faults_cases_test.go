//go:build e2e

package registry

import (
	"time"

	"github.com/fastpull/fastpull/internal/faulty"
)

const (
	faultySize = 1536 << 10 // of the layer that things go wrong with, about
	sharedSize = 6 << 20    // of one that several connections share in
	midway     = faultySize / 3
)

// faultCase is something that goes wrong, and what comes of it.
type faultCase struct {
	name     string
	rules    []faulty.Rule // of a blob without a path: the layer
	token    bool          // the registry wants one
	redirect bool          // blobs are elsewhere

	code   int           // exit code
	says   []string      // and words
	thrown thrown        // in a pull that succeeds
	refuse bool          // the last faulty answer is not taken: it shows before any digest does
	atMost time.Duration // it takes; 0 is half a minute
}

// thrown is what cannot be used of what came, beside the blob itself.
type thrown struct {
	words string
	bytes int64
}

var (
	nothing = thrown{"nothing", 0}
	before  = thrown{"what came before it", midway}
	theBlob = thrown{"the blob, once", faultySize}
	// Buffers between a body without an end and a reader that leaves it hold some megabytes.
	buffered = thrown{"what was on the way", 16 << 20}
)

// configPath, as the path of a rule, stands for the image's config.
const configPath = "config"

// faultCases are the cases of TestFaults and the lines of docs/faults.md.
func faultCases() []faultCase {
	const always = faulty.Always
	blob := func(nth, times int, do faulty.Fault) faulty.Rule {
		return faulty.Rule{On: faulty.Blob, Nth: nth, Times: times, Do: do}
	}
	ranged := func(times int, do faulty.Fault) faulty.Rule {
		return faulty.Rule{On: faulty.Blob, Which: faulty.Ranged, Times: times, Do: do}
	}
	rules := func(r ...faulty.Rule) []faulty.Rule { return r }
	reset := blob(1, 1, faulty.Reset(midway)) // so that the rest is asked for as a range

	return []faultCase{
		// Connections.
		{name: "connection reset in mid-blob", rules: rules(reset), thrown: nothing},
		{name: "connection reset four times, each time further on", rules: rules(blob(1, 4, faulty.Reset(faultySize/5))), thrown: nothing},
		{name: "connection reset before the first byte, always", rules: rules(blob(1, always, faulty.Reset(0))), code: 1, says: []string{"layer", "tried"}},
		{name: "answer broken off (HTTP/2: a stream error)", rules: rules(blob(1, 1, faulty.Abort(midway))), thrown: nothing},
		{name: "connection refused for a second, in mid-blob", rules: rules(blob(1, 1, faulty.RefuseAfter(midway, time.Second))), thrown: nothing},
		{name: "connection refused for a second, at a blob", rules: rules(blob(1, 1, faulty.Refuse(time.Second))), thrown: nothing},
		{name: "connection refused for 100 ms, at the manifest", rules: rules(faulty.Rule{On: faulty.Manifest, Do: faulty.Refuse(100 * time.Millisecond)}), thrown: nothing},

		// Time.
		{name: "no more bytes in mid-blob", rules: rules(blob(1, 1, faulty.Stall(midway))), thrown: nothing, atMost: 75 * time.Second},
		{name: "no more bytes, always", rules: rules(blob(1, always, faulty.Stall(0))), code: 1, says: []string{"no byte came"}},
		{name: "1 kB/s in mid-blob", rules: rules(blob(1, 1, faulty.Trickle(midway, 1000))), thrown: nothing},
		{name: "1 kB/s, always", rules: rules(blob(1, always, faulty.Trickle(0, 1000))), code: 1, says: []string{"layer"}},
		{name: "headers of a blob that never come, once", rules: rules(blob(1, 1, faulty.Silence())), thrown: nothing, atMost: 75 * time.Second},
		{name: "headers of a blob that never come, always", rules: rules(blob(1, always, faulty.Silence())), code: 1, says: []string{"layer"}},
		{name: "headers of the manifest that never come, once", rules: rules(faulty.Rule{On: faulty.Manifest, Do: faulty.Silence()}), thrown: nothing, atMost: 75 * time.Second},

		// Lengths.
		{name: "cut off, with the right Content-Length", rules: rules(blob(1, 1, faulty.Cut(midway))), thrown: nothing},
		{name: "cut off, without a Content-Length", rules: rules(blob(1, 1, faulty.ShortUnmeasured(midway))), thrown: nothing},
		{name: "cut off, with a Content-Length to match", rules: rules(blob(1, always, faulty.Short(midway))), code: 5, says: []string{"fewer bytes"}},
		{name: "rest cut off, with a Content-Length to match", rules: rules(reset, ranged(1, faulty.Short(1000))), thrown: theBlob},
		{name: "a body that does not end", rules: rules(blob(1, always, faulty.Endless())), thrown: buffered},
		{name: "a manifest that does not end", rules: rules(faulty.Rule{On: faulty.Manifest, Times: always, Do: faulty.Endless()}), code: 5, says: []string{"manifest", "limit"}},

		// Ranges.
		{name: "200 for a range", rules: rules(reset, ranged(always, faulty.Unranged())), thrown: before},
		{name: "416 for a range", rules: rules(reset, ranged(always, faulty.Status(416))), thrown: before},
		{name: "Content-Range one too late", rules: rules(reset, ranged(always, faulty.WrongContentRange(faulty.LabelLate))), thrown: theBlob, refuse: true},
		{name: "Content-Range one too long", rules: rules(reset, ranged(always, faulty.WrongContentRange(faulty.LabelLong))), thrown: theBlob, refuse: true},
		{name: "Content-Range with another total", rules: rules(reset, ranged(always, faulty.WrongContentRange(faulty.LabelTotal))), thrown: theBlob, refuse: true},
		{name: "Content-Range of the whole blob", rules: rules(reset, ranged(always, faulty.WrongContentRange(faulty.LabelWhole))), thrown: theBlob, refuse: true},
		{name: "206 without a Content-Range", rules: rules(reset, ranged(always, faulty.WrongContentRange(faulty.LabelNone))), thrown: theBlob, refuse: true},
		{name: "range that begins a byte late and says so", rules: rules(reset, ranged(always, faulty.LateRange(1))), thrown: theBlob, refuse: true},
		{name: "range that ends a byte early and says so", rules: rules(reset, ranged(1, faulty.ShortRange(1))), thrown: nothing},
		{name: "range that begins a byte early and does not say so", rules: rules(reset, ranged(always, faulty.ShiftedRange(-1))), thrown: theBlob},

		// Answers.
		{name: "429 in mid-pull", rules: rules(reset, ranged(1, faulty.Status(429))), thrown: nothing},
		{name: "429 with Retry-After: 1", rules: rules(blob(1, 2, faulty.Status(429, "Retry-After", "1"))), thrown: nothing},
		{name: "429 always", rules: rules(blob(1, always, faulty.Status(429))), code: 1, says: []string{"429", "limits how much"}},
		{name: "503 three times", rules: rules(blob(1, 3, faulty.Status(503))), thrown: nothing},
		{name: "503 three times, for the manifest", rules: rules(faulty.Rule{On: faulty.Manifest, Times: 3, Do: faulty.Status(503)}), thrown: nothing},
		{name: "503 three times, for the token", token: true, rules: rules(faulty.Rule{On: faulty.Token, Times: 3, Do: faulty.Status(503)}), thrown: nothing},
		{name: "503 always", rules: rules(blob(1, always, faulty.Status(503))), code: 1, says: []string{"503", "tried"}},
		{name: "404 for a layer", rules: rules(blob(1, always, faulty.Status(404))), code: 3, says: []string{"no such blob"}},

		// Logins and redirects.
		{name: "token that expires in mid-pull", token: true, rules: rules(reset, ranged(1, faulty.RevokeTokens())), thrown: nothing},
		{name: "token that expires, and 503 for the next", token: true, rules: rules(reset, ranged(1, faulty.RevokeTokens()), faulty.Rule{On: faulty.Token, Nth: 2, Do: faulty.Status(503)}), thrown: nothing},
		{name: "token that expires at once, always", token: true, rules: rules(blob(1, always, faulty.RevokeTokens())), code: 4, says: []string{"401"}},
		{name: "redirect, reset in mid-blob", redirect: true, rules: rules(faulty.Rule{On: faulty.Target, Do: faulty.Reset(midway)}), thrown: nothing},
		{name: "redirect that has expired in mid-blob", redirect: true, rules: rules(faulty.Rule{On: faulty.Target, Do: faulty.Reset(midway)}, ranged(1, faulty.ExpireTargets())), thrown: nothing},
		{name: "redirect that has expired on the way", redirect: true, rules: rules(faulty.Rule{On: faulty.Target, Do: faulty.ExpireTargets()}), thrown: nothing},
		{name: "redirect that has expired, always", redirect: true, rules: rules(faulty.Rule{On: faulty.Target, Times: always, Do: faulty.ExpireTargets()}), code: 4, says: []string{"403"}},

		// Content.
		{name: "a byte flipped in the layer, once", rules: rules(blob(1, 1, faulty.Flip(midway))), thrown: theBlob},
		{name: "a byte flipped in the layer, always", rules: rules(blob(1, always, faulty.Flip(midway))), code: 5, says: []string{"digest"}},
		{name: "a byte flipped in the config, once", rules: rules(faulty.Rule{On: faulty.Blob, Path: configPath, Do: faulty.Flip(20)}), thrown: nothing},
		{name: "a byte flipped in the config, always", rules: rules(faulty.Rule{On: faulty.Blob, Path: configPath, Times: always, Do: faulty.Flip(20)}), code: 5, says: []string{"digest"}},
		{name: "a byte flipped in the manifest, once", rules: rules(faulty.Rule{On: faulty.Manifest, Do: faulty.Flip(20)}), thrown: nothing},
		{name: "a byte flipped in the manifest, always", rules: rules(faulty.Rule{On: faulty.Manifest, Times: always, Do: faulty.Flip(20)}), code: 0, says: []string{"its own counts"}, thrown: nothing},
	}
}
