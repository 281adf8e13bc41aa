// Package doctor looks at a host and says if it is able to pull: what is stuck now,
// what would get stuck, what the host and its Engines lack, and how a registry
// answers.
//
// # Promises
//
// Nothing on the host is changed: what is tried is tried in folders of its own, which
// are gone afterwards and leave their parent's time of change as it was (package checkup), in
// mounts that one thread sees, and with processes that are ended. [WriteDropIn] is the one
// exception, and only who calls it gets it.
//
// Every look has a deadline. What this user may not look at, or what is not here, is a
// finding, too ([Unknown]), not an error: the others are looked at all the same.
//
// No credentials, and no environment but the few variables that are named, are part of
// a finding.
//
// Foreign programs are run here, which fastpull does nowhere else: the decompressors that
// Engines would run, to try them, and the package managers that know whose they are. A
// pull has no use for either. They run as nobody or an Engine's own user if we are root, in
// their Engine's root, and there without a network and other processes, without a way to gain privileges, with limits, and end with us. None of them is one of
// our own PATH, unless a Podman there would run it.
//
// # How it works
//
// [Run] makes one examination after the other, and each tells its findings as it goes.
// A finding has a level, a sentence, and where there is one a way out, as lines to
// paste.
//
// Processes that work for an Engine are watched for some seconds (watch.go): bytes that
// they read and write, CPU time, and the pipes that they wait in (pipe.go). One that has
// input before it, room behind it, and moves nothing is stuck. An Engine's decompressor
// is found as it finds it itself (roles.go, decompressors.go) and is fed with streams
// that are made for it (streams.go), the plain bytes of which are known (trial.go,
// sandbox.go).
package doctor
