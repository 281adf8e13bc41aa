package inflate

import "errors"

// block reads the head of a block, again from its beginning if it was not all
// there.
func (d *decoder) block() error {
	kind, err := d.head()
	if err == errShort {
		return d.more()
	}
	if err != nil {
		return err
	}
	if d.step = (*decoder).symbols; kind == storedBlock {
		d.step = (*decoder).storedBytes
	}
	return nil
}

// The types of blocks (RFC 1951, 3.2.3).
const (
	storedBlock = iota
	fixedBlock
	dynamicBlock
)

// errShort says that there is not enough input yet.
var errShort = errors.New("more input is needed")

// head reads the head of a block and prepares for its content. If the error is errShort, nothing
// has changed.
func (d *decoder) head() (kind uint, err error) {
	b := bitReader{in: d.in[:d.end], pos: d.pos, buf: d.buf, n: d.n}
	b.refill()
	last := b.take(1) == 1
	kind = b.take(2)
	var why reason
	var stored int
	switch kind {
	case storedBlock:
		stored, why = storedLength(&b)
	case fixedBlock:
	case dynamicBlock:
		why = d.lengths.read(&b)
	default:
		why = "a block of type 3"
	}
	b.unread()
	if b.over() {
		return 0, errShort
	}
	d.pos, d.buf, d.n = b.pos, b.buf, b.n
	if why != "" {
		return 0, d.corrupt(why)
	}
	d.last = last
	switch kind {
	case storedBlock:
		d.stored = stored
	case fixedBlock:
		t := fixedTables()
		d.lit, d.dist = &t.lit, &t.dist
	default:
		if why := d.own.lit.build(d.lengths.lit()); why != "" {
			return 0, d.corrupt(why)
		}
		if why := d.own.dist.build(d.lengths.dist()); why != "" {
			return 0, d.corrupt(why)
		}
		d.lit, d.dist = &d.own.lit, &d.own.dist
	}
	return kind, nil
}

// storedLength reads what stands before the bytes of a stored block.
func storedLength(b *bitReader) (int, reason) {
	b.skip(b.n & 7)
	b.refill()
	length, complement := b.take(16), b.take(16)
	if length != complement^0xffff {
		return 0, "the length of a stored block differs from its complement"
	}
	return int(length), ""
}

// endBlock goes on behind a block.
func (d *decoder) endBlock() error {
	d.step = d.points.block
	if d.last {
		d.buf, d.n = 0, 0 // to the next whole byte
		d.step = d.points.trailer
	}
	return nil
}

// storedBytes copies what there is of a stored block, and space for.
func (d *decoder) storedBytes() error {
	if d.stored == 0 {
		return d.endBlock()
	}
	if d.pos == d.end {
		return d.more()
	}
	n := copy(d.out[d.w:d.limit], d.in[d.pos:min(d.pos+d.stored, d.end)])
	d.w += n
	d.pos += n
	d.stored -= n
	return nil
}

// symbols decodes literals and matches.
func (d *decoder) symbols() error {
	var st status
	if limit := d.end - inSlack; d.pos+inAhead < limit {
		st = d.run(limit, d.limit-1)
	} else {
		// The input ends soon, and zeroes follow it. So decode one iteration at a time, and
		// undo an iteration that used zeroes.
		saved := d.lane
		if st = d.run(d.pos+inAhead, d.w); d.pos > d.end {
			d.lane = saved
			return d.more()
		}
	}
	switch st {
	case atEnd:
		return d.endBlock()
	case badCode:
		return d.corrupt("bits that are no code")
	case badWindow:
		return d.corrupt("a distance that goes back too far")
	}
	return nil
}
