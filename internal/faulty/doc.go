// Package faulty is a proxy for tests that makes a registry fail on cue: connections break,
// servers stall, answers are not what was asked for, and logins expire.
//
// # Promises
//
//   - Without a fault an answer is the registry's, byte for byte.
//   - A fault hits the requests that its script names and no others. What a
//     client got before the fault it has really got: a connection is reset only
//     when its other end has taken what was sent.
//   - It counts each byte of each blob that it sent. Buffers of the kernel
//     between it and a client that leaves are counted too, as they would be on
//     the bill of a real line.
//   - Nothing waits longer than the client or until [Proxy.Close], after which
//     port, connections and goroutines are gone.
//
// # How it works
//
// [Start] opens two listeners at two ports. The second one is the target of redirects. Each
// request is classified and given to the [Script], which is [Rules], [Random] or a func of
// the test. The [Fault] that it returns can change the answer at four points: before the
// request is looked at, in the request to the registry, in the head of the answer, and in
// the body while it is sent. The proxy itself makes the logins and redirects that a test
// wants, so that it can let them expire. Of the faults, only those that take the place of an
// answer apply to them.
//
// Over HTTP/2 a reset ends the whole connection with all its streams, as over HTTP/1.1.
// [Abort] ends one stream.
package faulty
