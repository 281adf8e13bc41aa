// Package destination defines what a pull needs of a destination for images, and has the parts
// that several destinations share. Each destination is a package below this one.
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
// Beside Open, each destination has a function Check, which doctor runs. It finds out what would
// not work on this machine. It changes nothing: it tries things in a temporary directory
// ([Machine], package checkup). The table of all destinations names both functions.
//
// A destination imports neither package pull nor another destination.
package destination
