//go:build !purego && (amd64 || arm64 || ppc64le)

package inflate

import "unsafe"

// loop and markerLoop are what [lane.run] and [lane.runMarkers] run.
var (
	loop       = unsafeLoop[byte]
	markerLoop = unsafeLoop[uint16]
)

// unsafeLoop is the loop of [lane.run] and [lane.runMarkers], with pointers in place of
// indices. No other code of this package uses unsafe. It is for machines that store the lowest
// byte first and load from any address.
//
// Each access is within its slice for these reasons. run makes sure that an iteration begins
// with at least inSlack bytes of input and outSlack bytes of output after the pointers, and
// lane has the proof that no iteration needs more. A match begins at base or after it. The
// tables are arrays, and their indices are masked.
func unsafeLoop[T byte | uint16](l *lane, slab []T, w, first, inLimit, outLimit int) (int, status) {
	size := unsafe.Sizeof(T(0))
	in := unsafe.Pointer(&l.in[l.pos])
	inEnd := uintptr(unsafe.Pointer(&l.in[inLimit]))
	out := unsafe.Pointer(&slab[w])
	outEnd := uintptr(unsafe.Pointer(&slab[outLimit]))
	base := uintptr(unsafe.Pointer(&slab[first]))
	lit, dist := l.lit, l.dist
	buf, n := l.buf, uint64(l.n)
	st := atLimit

	buf |= *(*uint64)(in) << (n & 63)
	in = unsafe.Add(in, ^n>>3&7)
	n |= 56
	e := lit[buf&(1<<litBits-1)]
	for uintptr(in) < inEnd && uintptr(out) <= outEnd {
		if e&entryLit != 0 {
			*(*T)(out) = T(uint8(e >> entryCodeAt))
			out = unsafe.Add(out, size)
			buf >>= e & 63
			n -= uint64(e)
			e = lit[buf&(1<<litBits-1)]
			if e&entryLit != 0 {
				*(*T)(out) = T(uint8(e >> entryCodeAt))
				out = unsafe.Add(out, size)
				buf >>= e & 63
				n -= uint64(e)
				buf |= *(*uint64)(in) << (n & 63)
				in = unsafe.Add(in, ^n>>3&7)
				n |= 56
				e = lit[buf&(1<<litBits-1)]
				continue
			}
			buf |= *(*uint64)(in) << (n & 63)
			in = unsafe.Add(in, ^n>>3&7)
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
					*(*T)(out) = T(uint8(e >> entryCodeAt))
					out = unsafe.Add(out, size)
					buf |= *(*uint64)(in) << (n & 63)
					in = unsafe.Add(in, ^n>>3&7)
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
		length := uintptr(e>>entryBaseAt) + uintptr(saved&^(^uint64(0)<<(e&63))>>(e>>entryCodeAt&63))

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
		distance := uintptr(d>>entryBaseAt) + uintptr(saved&^(^uint64(0)<<(d&63))>>(d>>entryCodeAt&63))

		buf |= *(*uint64)(in) << (n & 63)
		in = unsafe.Add(in, ^n>>3&7)
		n |= 56
		e = lit[buf&(1<<litBits-1)]

		length *= size // in bytes, from here on
		distance *= size
		if distance > uintptr(out)-base {
			st = badWindow
			break
		}
		from := unsafe.Add(out, -int(distance))
		to := out
		out = unsafe.Add(out, length)
		switch {
		case distance >= 16:
			*(*[16]byte)(to) = *(*[16]byte)(from)
			*(*[16]byte)(unsafe.Add(to, 16)) = *(*[16]byte)(unsafe.Add(from, 16))
			for length > 32 {
				from, to = unsafe.Add(from, 32), unsafe.Add(to, 32)
				*(*[16]byte)(to) = *(*[16]byte)(from)
				*(*[16]byte)(unsafe.Add(to, 16)) = *(*[16]byte)(unsafe.Add(from, 16))
				length -= 32
			}
		case distance >= 8:
			for {
				*(*uint64)(to) = *(*uint64)(from)
				if length <= 8 {
					break
				}
				from, to = unsafe.Add(from, 8), unsafe.Add(to, 8)
				length -= 8
			}
		case distance == size:
			v := uint64(*(*T)(from)) * (^uint64(0) / uint64(^T(0)))
			for {
				*(*uint64)(to) = v
				if length <= 8 {
					break
				}
				to = unsafe.Add(to, 8)
				length -= 8
			}
		default:
			// The first distance bytes of a word are right, and then it
			// goes on with these.
			for {
				*(*uint64)(to) = *(*uint64)(from)
				if length <= distance {
					break
				}
				from, to = unsafe.Add(from, distance), unsafe.Add(to, distance)
				length -= distance
			}
		}
	}
	l.pos = int(uintptr(in) - uintptr(unsafe.Pointer(&l.in[0])))
	l.buf, l.n = buf, uint(n&63)
	return int(uintptr(out)-uintptr(unsafe.Pointer(&slab[0]))) / int(size), st
}
