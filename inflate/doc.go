// Package inflate decodes gzip (RFC 1952) and DEFLATE (RFC 1951). It is fast, has no
// assembly, and decodes one stream on several cores if asked to.
//
// For most callers, [NewReader] replaces that of compress/gzip. [NewParallelReader] decodes
// one stream on several cores. [NewIndexReader] makes an index, by which a second reader
// can begin in the middle.
//
// # Promises
//
//   - Bytes returned before an error are the beginning of the plain data. A stream ends with
//     [io.EOF] only after the CRC-32 and the size of every member were right.
//   - Any input gives bytes or an error. There is no panic and no access outside of the
//     buffers. A Reader needs less than 512 KiB, which the next Reader uses again.
//   - A Reader reads at most 64 KiB ahead of what it returns. It waits for input only when
//     it has returned all that can be decoded.
//   - A [ParallelReader] returns the same bytes and errors as a Reader. It needs less than
//     64 MiB, and 16 MiB more for each worker. After Close all its goroutines have ended.
//   - compress/gzip and compress/flate accept the same streams, with the same bytes. There
//     are three exceptions. Flags that RFC 1952 reserves are an error here. Names in headers
//     may have any length here. Zeroes may follow the last member here, unless the option
//     Tail is [NoTail].
//
// A Reader is for one goroutine at a time.
//
// # Stability
//
// The package depends on the standard library only, and knows nothing of containers. Names,
// the bytes returned and the kinds of errors are stable: they change with a major version.
// The text of errors, the sizes of the slices that Next returns, and memory and speed within
// the bounds above may change at any time.
//
// # How it works
//
// A [Reader] has a buffer for input, and a slab for output that begins with the last 32 KiB
// of what was decoded before. [Reader.Next] returns pieces of the slab.
//
//	input ─→ header ─→ block ─→ symbols ─→ trailer
//	                   ↑ ↓ lengths, tables
//	                   stored bytes
//
// Each step is a method of decoder. It works until input or space is used up, and names the
// next step. The head of a block is read again from its start if a part of it was missing.
// So no step keeps state of its own.
//
// One loop takes nearly all of the time (loop_unsafe.go). An iteration decodes two literals,
// or up to one literal and a match. It looks up as many bits as the tables are wide
// (table.go), and reads and writes whole words, also beyond what it needs. It checks the
// limits of its buffers once, since both have slack behind them. Zeroes follow the end of
// the input, and an iteration that used them is undone. loop_safe.go has the loop without
// unsafe, for other machines and for builds with the tag purego.
//
// # From the middle
//
// A Reader of [NewIndexReader] records at which blocks decoding can begin, and the window at
// these blocks (index.go). [Index.NewReader] begins at the last of them before an offset. So
// reading at the end of a stream costs about as much as reading at its beginning.
//
// # In parallel
//
// The front of a [ParallelReader] is the decoder above. A goroutine reads the input into
// pieces of 512 KiB (input.go). If a core is idle, a worker takes a piece ahead of the front
// (speculate.go). It searches for a position at which a block or a member seems to begin
// (find.go), and decodes from there. A match may refer to bytes before that position. They
// are unknown yet, and markers stand for them (markers.go). After 32 KiB without a marker
// the usual loop continues.
//
// When the front reaches that position, its window replaces the markers, and it takes over
// what was decoded (parallel.go). If the front never stops at that position, the work is
// thrown away. So a wrong guess costs time and never changes a byte. A worker reports no
// errors: its result ends before an error, and the front finds it.
package inflate
