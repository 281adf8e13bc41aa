// Package progress shows a user what a run is doing.
//
// Workers have a [Task] each and only add to its counters, which are atomic.
// One goroutine, the drawer, looks at the counters ten times a second and
// turns them into one of four views:
//
//   - tty: a live area of one line a task and a total line last, redrawn in
//     place. It is never higher than the terminal nor wider than it, also
//     after a resize. Tasks that are over collapse to a count, so that a run of
//     hundreds of layers stays calm; failures, notes and warnings scroll up
//     above it, and one summary line remains.
//   - plain: a line when a task starts and one when it is over, and every 10 s
//     a total line, so that a log stays short and shows life.
//   - json: an object a line, see below.
//   - quiet: warnings only, and no goroutine but while one is being written.
//
// # Promises
//
//   - The work is never held up: no method of Task or Display but Close touches
//     the output, and Close waits at most a second for it. An output that fails,
//     such as a closed pipe, ends the drawing and nothing else, even where it
//     is standard error.
//   - Each frame is one Write.
//   - The terminal is in a sane state at any moment: the cursor stays visible
//     and rests at the start of the line below the live area, so that a kill
//     leaves nothing to repair.
//   - What others may have written (names, notes) reaches the output without
//     control characters, escape sequences, line breaks or invisible runes.
//   - A nil *Display and a nil *Task do nothing, so callers need no checks.
//
// # Bytes, rates, times
//
// Units are decimal, as Docker's are: 1 MB is 10^6 bytes. A rate is that of the last five
// seconds, and the time left is the rest at that rate. Both are left out while they are not
// known. If bytes are expected and none arrived for ten seconds, "no byte for 20 s" replaces
// them.
//
// A task counts three things, one after the other: bytes that come in (Waiting, Downloading
// and Extracting), bytes sent (Sending) and bytes loaded or verified (Loading, Verifying).
// Each has its own counter and total.
//
// The total line is in bytes of the images. If a byte makes several trips, such as from the
// registry and then into an Engine, it counts once, and half of it is done after one of two
// trips. Set the totals of all trips at the beginning: the line never falls, and stands still
// for a trip that is added later. Bytes that exist already, and those of failed tasks, do not
// count as still to come. The summary at the end is of the bytes received, or of the bytes sent
// if none were received.
//
// # JSON
//
// Each line is one object; "type" tells which. Members may be added.
//
//	{"type":"task","id":"7282db03f190","phase":"downloading","done":0,"total":26700000}
//	{"type":"total","done":1000,"total":26700000,"rate":500,"eta":53.4,
//	 "tasks":{"waiting":0,"active":1,"done":0,"exists":0,"failed":0}}
//	{"type":"note","text":"…"}
//	{"type":"warning","text":"…"}
//
// A task object is written at each change of phase, in order, and at most once a second while
// the task's counter moves. Its members:
//
//   - "id" is the name of the task.
//   - "phase" is one of waiting, downloading, extracting, sending, loading, verifying, done,
//     exists, failed and interrupted.
//   - "done" and "total" are bytes of the current counter. A total of 0 is unknown. While a task
//     is extracting, "done" is the bytes of its blob that are decompressed.
//   - "kept" is the bytes that an earlier run has fetched, absent if none.
//   - "doing" says what the task does or waits for, if the phase alone does not.
//
// A total object is written at most once a second while something changes, and every ten seconds
// otherwise. Its members:
//
//   - "rate" is in bytes a second.
//   - "eta" is in seconds, absent while unknown.
//   - "idle" is the seconds since the last byte, if bytes are expected; it is absent below ten.
//   - "tasks" counts the tasks in each state.
//   - "final" is true in the last total object.
//
// # Source
//
// The glyphs of a bar are those of github.com/schollz/progressbar; the lines
// are stacked here, since it draws one bar only. The escape sequences are
// ECMA-48's CUU, EL and ED.
package progress
