package inflate

import "encoding/binary"

// A piece that is decoded without its window consists of symbols. A symbol is a byte, or a
// marker: firstMarker plus k stands for byte k of the unknown window.
const (
	firstMarker = 256
	allSymbols  = firstMarker + windowSize
)

// unknownWindow is a window that is all markers.
var unknownWindow = func() (t [windowSize]uint16) {
	for k := range t {
		t[k] = uint16(firstMarker + k)
	}
	return t
}()

// runMarkers is [lane.run] into symbols: it goes on from out[w] and returns where
// it has ended. out begins with a window, so that no distance reaches before it.
func (l *lane) runMarkers(out []uint16, w, inLimit, outLimit int) (int, status) {
	if len(l.in)-inSlack < max(inLimit, l.pos) || len(out)-outSlack < max(outLimit, w) || w < windowSize {
		panic("inflate: no slack") // which no input can bring about
	}
	w, st := markerLoop(l, out, w, 0, inLimit, outLimit)
	l.unread()
	return w, st
}

// safeMarkerLoop is safeLoop for symbols. Only the width of the output differs.
func safeMarkerLoop(l *lane, out []uint16, w, _, inLimit, outLimit int) (int, status) {
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
			out[w] = uint16(uint8(e >> entryCodeAt))
			w++
			buf >>= e & 63
			n -= uint64(e)
			e = lit[buf&(1<<litBits-1)]
			if e&entryLit != 0 {
				out[w] = uint16(uint8(e >> entryCodeAt))
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
					out[w] = uint16(uint8(e >> entryCodeAt))
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

		w += length
		if distance >= 16 {
			from, to := out[w-length-distance:], out[w-length:]
			for {
				*(*[16]uint16)(to) = *(*[16]uint16)(from)
				if length <= 16 {
					break
				}
				from, to = from[16:], to[16:]
				length -= 16
			}
			continue
		}
		for k := w - length; k < w; k++ {
			out[k] = out[k-distance]
		}
	}
	l.pos, l.buf, l.n = i, buf, uint(n&63)
	return w, st
}

// resolver is the plain byte of each symbol, once a window is known.
type resolver [1 << 16]byte

func (r *resolver) know(window []byte) {
	for b := range firstMarker {
		r[b] = byte(b)
	}
	copy(r[firstMarker:allSymbols], window)
}

func (r *resolver) resolve(to []byte, symbols []uint16) {
	to = to[:len(symbols)]
	for i, s := range symbols {
		to[i] = r[s]
	}
}
