// Package inflate decodes gzip (RFC 1952) and DEFLATE (RFC 1951) fast, on one
// core and without assembly.
//
// # Promises
//
//   - What is returned before an error is a beginning of the plain data. A stream
//     ends in [io.EOF] only after every member's CRC-32 and size were right.
//   - Input of any kind gives bytes or an error: no panic, no access outside of
//     the buffers, and less than 512 KiB of memory a Reader, which are kept for
//     the next one.
//   - Of the input no more is read than fits into a buffer of 64 KiB. All that
//     can be decoded of what has come is returned before more is waited for.
//   - What compress/gzip and compress/flate refuse is refused here, and what they
//     accept gives the same bytes. The exceptions are flags that RFC 1952
//     reserves, which are an error here, and names of any length, which are not.
//
// # How it works
//
// A [Reader] has a buffer for input and a slab for output, with the last 32 KiB
// of what was decoded before it. [Reader.Next] returns pieces of the slab.
//
//	input ─→ header ─→ block ─→ symbols ─→ trailer
//	                   ↑ ↓ lengths, tables
//	                   stored bytes
//
// Each of these is a step, a method of decoder that goes on as far as it can and
// names the next one. The head of a block is read again from its beginning if not
// all of it was there. So nothing has to wait in the middle of something.
//
// Nearly all time is spent in one loop (loop_unsafe.go), in turns of two
// literals, or of one at most and a match. It looks up as many bits at once as the tables are wide
// (table.go), reads and writes whole words, beyond what it needs, and looks for
// the limits of its buffers once in a turn: both have slack behind them. Where the
// input ends, zeroes follow, and what was made of them is taken back. The loop
// without unsafe is loop_safe.go, for other machines and for builds with the tag
// purego.
package inflate
