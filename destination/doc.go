// Package destination says what a place for images is to a pull, and has what several
// places share. Each place is a package of its own below this one.
//
// # Rules that each destination keeps
//
//  1. Nothing is visible before it is complete. A kill at any moment leaves the
//     destination valid, and the next run continues or cleans up.
//  2. What was committed is there after a power failure once Finish has returned, unless the
//     user does without ([Env.NoSync]).
//  3. Only missing layers are fetched. A second run fetches one manifest.
//  4. No other program decompresses: none of ours, and none that an engine would run on
//     what it is handed.
//  5. The engine itself agrees: its own tools list, inspect, run, save and delete what was
//     written.
//  6. The same image gives the same file tree at two destinations, but for what the
//     engines define differently.
//
// # How a pull uses a destination
//
//	Open ─→ Lookup (a dry run ends here) ─→ Begin ─→ Layer, for each of Tx.Layers ─→ Commit ─→ Finish ─→ Close
//
// Beside Open, the package of a destination has Check, which doctor runs: it finds out
// what would not work on this machine. It changes nothing, and tries what it tries in a
// temporary place ([Machine], package checkup). The table of all destinations names both.
//
// A destination imports neither package pull nor another destination.
package destination
