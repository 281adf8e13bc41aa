package faulty

import (
	"math/rand/v2"
	"strings"
	"time"
)

// Kind is what a request is for.
type Kind int

// The kinds of requests.
const (
	Any      Kind = iota // in a rule
	Ping                 // GET /v2/
	Token                // of the token server
	Manifest             // by tag or digest
	Blob                 // at the registry, which may redirect it
	Target               // a blob where a redirect leads
	Other                // everything else
)

// Request is what a script sees of one.
type Request struct {
	Kind   Kind
	Path   string
	Ranged bool // has a Range

	First, Last int64 // of the Range; Last is -1 if its end is open
}

// Digest is that of the blob that is asked for, or "".
func (r Request) Digest() string {
	_, digest, _ := strings.Cut(r.Path, "/blobs/")
	return digest
}

// Script says what goes wrong with a request. The zero Fault is nothing. It is
// called for every request in the order of their coming, by one goroutine at a
// time.
type Script func(Request) Fault

// Which says if a rule is for requests with a Range or for those without.
type Which int

// Which requests a rule is for.
const (
	Either Which = iota
	Ranged
	Whole
)

// Always, as the Times of a rule, is from Nth on for ever.
const Always = -1

// Rule is a fault with the requests that it is for.
type Rule struct {
	On    Kind   // of this kind
	Path  string // whose path contains this
	Which Which
	Nth   int // from the Nth of them on, 0 being the first, as 1 is
	Times int // so many of them, 0 being one
	Do    Fault
}

// Rules does what the first rule says that is for a request. The others count
// the request nonetheless, if it is of their kind.
func Rules(rules ...Rule) Script {
	seen := make([]int, len(rules))
	return func(req Request) Fault {
		var chosen Fault
		for i, r := range rules {
			if r.On != Any && r.On != req.Kind ||
				!strings.Contains(req.Path, r.Path) ||
				r.Which != Either && (r.Which == Ranged) != req.Ranged {
				continue
			}
			seen[i]++
			first := max(r.Nth, 1)
			due := seen[i] >= first && (r.Times == Always || seen[i] < first+max(r.Times, 1))
			if due && chosen.name == "" {
				chosen = r.Do
			}
		}
		return chosen
	}
}

// Random returns a script that gives faults to a share of all requests. Faults in a body are at
// offsets up to size. If slow is set, there are also faults that a client has to end by a time
// limit. The same seed gives the same faults to the same sequence of requests.
func Random(seed uint64, share float64, size int64, slow bool) Script {
	rng := rand.New(rand.NewPCG(seed, 0))
	quick := []func(n int64) Fault{
		Reset, Abort, Cut, Short, ShortUnmeasured, Flip,
		func(int64) Fault { return Unranged() },
		func(int64) Fault { return WrongContentRange(LabelLate) },
		func(int64) Fault { return WrongContentRange(LabelTotal) },
		func(int64) Fault { return WrongContentRange(LabelNone) },
		func(int64) Fault { return ShiftedRange(-1) },
		func(int64) Fault { return LateRange(1) },
		func(int64) Fault { return ShortRange(1) },
		func(int64) Fault { return Status(416) },
		func(int64) Fault { return Status(429) },
		func(int64) Fault { return Status(429, "Retry-After", "1") },
		func(int64) Fault { return Status(503) },
		func(int64) Fault { return RevokeTokens() },
		func(int64) Fault { return ExpireTargets() },
		func(int64) Fault { return Endless() },
		func(int64) Fault { return Refuse(100 * time.Millisecond) },
	}
	all := quick
	if slow {
		all = append(all, Stall,
			func(n int64) Fault { return Trickle(n, 1000) },
			func(int64) Fault { return Silence() },
		)
	}
	return func(Request) Fault {
		if rng.Float64() >= share {
			return Fault{}
		}
		return all[rng.IntN(len(all))](rng.Int64N(size))
	}
}
