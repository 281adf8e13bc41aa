package inflate

// lane has the state of a loop that decodes the symbols of a block: input, output and tables.
// There are two such loops with the same results, one with unsafe and one without.
//
// Within an iteration, neither checks for the end of the input or of the output: both slices go
// on behind the limits.
type lane struct {
	in  []byte // at least inSlack bytes longer than the limit
	pos int    // the next byte to go into buf
	buf uint64
	n   uint // bits in buf that count

	out  []byte // at least outSlack bytes longer than the limit
	w    int    // the next byte to be written
	base int    // the first byte that distances may reach

	lit  *litTable
	dist *distTable
}

const (
	// The loops take less than this of the input into buf before their first
	// iteration.
	inAhead = 8
	// An iteration reads less of the input than this, from where it began.
	inSlack = 32
	// So many zeroes follow the input.
	inBeyond = inAhead + inSlack
	// An iteration writes at most two literals, or one and a match of 258 bytes, and
	// 31 bytes too many.
	outSlack = 512
)

// status is why a loop ended.
type status int

const (
	atLimit   status = iota // of the input or the output
	atEnd                   // of the block
	badCode                 // bits that are no code
	badWindow               // a distance before the first byte
)

// run decodes symbols, one iteration after the other, until the input reaches inLimit or the
// output passes outLimit. Bits that an iteration looked ahead are given back: pos is the end
// of the last symbol, at most inSlack behind inLimit, and buf has the 7 bits or less that are
// left of the byte before pos.
//
// There is at least one iteration if inLimit is inAhead behind pos and w is not behind
// outLimit. There is exactly one if w is outLimit.
func (l *lane) run(inLimit, outLimit int) status {
	if len(l.in)-inSlack < max(inLimit, l.pos) || len(l.out)-outSlack < max(outLimit, l.w) ||
		min(inLimit, outLimit, l.pos, l.base) < 0 || l.w < l.base {
		panic("inflate: no slack") // which no input can bring about
	}
	var st status
	l.w, st = loop(l, l.out, l.w, l.base, inLimit, outLimit)
	l.unread()
	return st
}

// unread returns the bits that were looked ahead to the input.
func (l *lane) unread() {
	l.pos -= int(l.n >> 3)
	l.n &= 7
	l.buf &= 1<<l.n - 1
}
