package inflate

import "encoding/binary"

// safeLoop is the loop of [lane.run] without unsafe, for all other machines and
// for builds with the tag purego. It differs from unsafeLoop in how memory is
// accessed, and in nothing else.
func safeLoop(l *lane, out []byte, w, base, inLimit, outLimit int) (int, status) {
	in, i := l.in, l.pos
	lit, dist := l.lit, l.dist
	buf, n := l.buf, uint64(l.n)
	st := atLimit

	buf |= binary.LittleEndian.Uint64(in[i:]) << (n & 63)
	i += int(^n >> 3 & 7)
	n |= 56
	e := lit[buf&(1<<litBits-1)]
	for i < inLimit && w <= outLimit {
		if e&entryLit != 0 {
			out[w] = uint8(e >> entryCodeAt)
			w++
			buf >>= e & 63
			n -= uint64(e)
			e = lit[buf&(1<<litBits-1)]
			if e&entryLit != 0 {
				out[w] = uint8(e >> entryCodeAt)
				w++
				buf >>= e & 63
				n -= uint64(e)
				buf |= binary.LittleEndian.Uint64(in[i:]) << (n & 63)
				i += int(^n >> 3 & 7)
				n |= 56
				e = lit[buf&(1<<litBits-1)]
				continue
			}
			buf |= binary.LittleEndian.Uint64(in[i:]) << (n & 63)
			i += int(^n >> 3 & 7)
			n |= 56
		}

		saved := buf
		buf >>= e & 63
		n -= uint64(e)
		if e&entrySpecial != 0 {
			if e&(entryEnd|entryBad) == 0 {
				e = lit[(uint64(e>>entryBaseAt)+buf&(1<<(e>>entryCodeAt&15)-1))&(litSize-1)]
				saved = buf
				buf >>= e & 63
				n -= uint64(e)
				if e&entryLit != 0 {
					out[w] = uint8(e >> entryCodeAt)
					w++
					buf |= binary.LittleEndian.Uint64(in[i:]) << (n & 63)
					i += int(^n >> 3 & 7)
					n |= 56
					e = lit[buf&(1<<litBits-1)]
					continue
				}
			}
			if e&entryEnd != 0 {
				st = atEnd
				break
			}
			if e&entryBad != 0 {
				st = badCode
				break
			}
		}
		length := int(e>>entryBaseAt) + int(saved&^(^uint64(0)<<(e&63))>>(e>>entryCodeAt&63))

		d := dist[buf&(1<<distBits-1)]
		if d&entrySpecial != 0 {
			if d&entryBad == 0 {
				buf >>= distBits
				n -= distBits
				d = dist[(uint64(d>>entryBaseAt)+buf&(1<<(d>>entryCodeAt&15)-1))&(distSize-1)]
			}
			if d&entryBad != 0 {
				n -= uint64(d)
				st = badCode
				break
			}
		}
		saved = buf
		buf >>= d & 63
		n -= uint64(d)
		distance := int(d>>entryBaseAt) + int(saved&^(^uint64(0)<<(d&63))>>(d>>entryCodeAt&63))

		buf |= binary.LittleEndian.Uint64(in[i:]) << (n & 63)
		i += int(^n >> 3 & 7)
		n |= 56
		e = lit[buf&(1<<litBits-1)]

		if distance > w-base {
			st = badWindow
			break
		}
		from, to := out[w-distance:], out[w:]
		w += length
		switch {
		case distance >= 8:
			for {
				binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(from))
				if length <= 8 {
					break
				}
				from, to = from[8:], to[8:]
				length -= 8
			}
		case distance == 1:
			v := uint64(from[0]) * 0x0101010101010101
			for {
				binary.LittleEndian.PutUint64(to, v)
				if length <= 8 {
					break
				}
				to = to[8:]
				length -= 8
			}
		default:
			// The first distance bytes of a word are right, and then it
			// goes on with these.
			for {
				binary.LittleEndian.PutUint64(to, binary.LittleEndian.Uint64(from))
				if length <= distance {
					break
				}
				from, to = from[distance:], to[distance:]
				length -= distance
			}
		}
	}
	l.pos, l.buf, l.n = i, buf, uint(n&63)
	return w, st
}
