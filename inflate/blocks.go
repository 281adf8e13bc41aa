package inflate

// block reads the head of a block, again from its beginning if it was not all
// there.
func (d *decoder) block() error {
	b := bitReader{in: d.in[:d.end], pos: d.pos, buf: d.buf, n: d.n}
	b.refill()
	last := b.take(1) == 1
	kind := b.take(2)
	var why reason
	var stored int
	switch kind {
	case 0:
		stored, why = storedLength(&b)
	case 1:
	case 2:
		why = d.lengths.read(&b)
	default:
		why = "a block of type 3"
	}
	b.unread()
	if b.over() {
		return d.more()
	}
	d.pos, d.buf, d.n = b.pos, b.buf, b.n
	if why != "" {
		return d.corrupt(why)
	}
	d.last = last
	switch kind {
	case 0:
		d.stored = stored
		d.step = (*decoder).storedBytes
		return nil
	case 1:
		t := fixedTables()
		d.lit, d.dist = &t.lit, &t.dist
	default:
		if why := d.own.lit.build(d.lengths.lit()); why != "" {
			return d.corrupt(why)
		}
		if why := d.own.dist.build(d.lengths.dist()); why != "" {
			return d.corrupt(why)
		}
		d.lit, d.dist = &d.own.lit, &d.own.dist
	}
	d.step = (*decoder).symbols
	return nil
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
	d.step = (*decoder).block
	if d.last {
		d.buf, d.n = 0, 0 // to the next whole byte
		if d.step = (*decoder).trailer; d.raw {
			d.step = (*decoder).rawEnd
		}
	}
	return nil
}

// storedBytes copies what there is of a stored block, and room for.
func (d *decoder) storedBytes() error {
	if d.stored == 0 {
		return d.endBlock()
	}
	if d.pos == d.end {
		return d.more()
	}
	n := copy(d.out[d.w:outLimit], d.in[d.pos:min(d.pos+d.stored, d.end)])
	d.w += n
	d.pos += n
	d.stored -= n
	return nil
}

// symbols decodes literals and matches.
func (d *decoder) symbols() error {
	var st status
	if limit := d.end - inSlack; d.pos+inAhead < limit {
		st = d.run(limit, outLimit-1)
	} else {
		// The end of what has come is near, and zeroes follow. So one turn
		// at a time, and none that took these in counts.
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
