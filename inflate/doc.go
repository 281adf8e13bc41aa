// Package inflate decodes gzip (RFC 1952) and DEFLATE (RFC 1951) fast, without
// assembly, on one core, or on several where they are idle.
//
// # Promises
//
//   - What is returned before an error is a beginning of the plain data. A stream
//     ends in [io.EOF] only after every member's CRC-32 and size were right.
//   - Input of any kind gives bytes or an error: no panic, no access outside of
//     the buffers, and less than 512 KiB of memory a Reader, which are kept for
//     the next one.
//   - A Reader reads no more of the input than fits into a buffer of 64 KiB. All
//     that can be decoded of what has come is returned before more is waited for.
//   - A [ParallelReader] returns the bytes and errors that a Reader would. It needs
//     less than 64 MiB, and 16 MiB more for each of its workers, whatever comes of
//     the input. After Close, nothing of it is left.
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
//
// # From the middle
//
// A Reader of [NewIndexReader] notes at which blocks decoding can begin, and what is in
// the window there (index.go). [Index.NewReader] begins at the last of them before a
// place, so that it costs about as much to get to the end of a stream as to get to its
// beginning.
//
// # In parallel
//
// The front of a [ParallelReader] is the decoder above. Beside it a goroutine reads
// the input into pieces of 512 KiB (input.go). A piece that lies ahead of the front
// is worked on if a core is idle (speculate.go): a place is looked for where a block
// or a member seems to begin (find.go), and what follows is decoded. Of a match that
// reaches behind that place only markers are known (markers.go), until 32 KiB have
// come without one; then the usual loop goes on.
//
// When the front comes to just that place, it takes what was decoded: its window
// says what the markers stand for (parallel.go). If it never comes there, the place
// was none, and the work is thrown away. So a wrong guess costs time, and never a
// byte. Errors are not guessed either: a result ends before them, and the front
// finds them.
package inflate
