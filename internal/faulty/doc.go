// Package faulty puts a proxy before a registry that does wrong on cue. Tests
// use it to see what a client makes of connections that break, servers that
// stand still, answers that are not what was asked for, and logins that run out.
//
// What it promises:
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
// How it works: [Start] opens a listener, and a second one, at another port,
// for what redirects lead to. Each request is put into one of a few kinds and
// shown to the [Script], which is [Rules], [Random] or a func of the test's
// own. The [Fault] that it names takes part in the answer at up to four points:
// before anything is looked at, in what is asked of the registry, in the head of
// its answer, and while the body is sent. Logins and redirects that a test wants
// are the proxy's own, so that it can make them expire; they have no body that a
// fault could spoil, and take those that come in place of an answer.
//
// Over HTTP/2 a reset ends the whole connection with all its streams, as over
// HTTP/1.1; [Abort] ends one stream.
package faulty
