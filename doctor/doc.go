// Package doctor looks at a host and says if it is able to pull: what is stuck now,
// what would get stuck, what the host and its Engines lack, and how a registry
// answers.
//
// # Promises
//
// Nothing on the host is changed: what is tried is tried in folders of its own, which
// are gone afterwards and leave their parent's time of change as it was (scratch.go), in
// mounts that one thread sees, and with processes that are ended. [WriteDropIn] is the one
// exception, and only who calls it gets it.
//
// Every look has a deadline. What this user may not look at, or what is not here, is a
// finding, too ([Unknown]), not an error: the others are looked at all the same.
//
// No credentials, and no environment but the few variables that are named, are part of
// a finding.
//
// # How it works
//
// [Run] makes one examination after the other, and each tells its findings as it goes.
// A finding has a level, a sentence, and where there is one a way out, as lines to
// paste.
package doctor
