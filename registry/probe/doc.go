// Package probe finds out how the hosts of a registry answer, step by step, and how fast a
// blob arrives. It sends single requests in the way of a pull, verifies nothing and keeps
// nothing.
//
// [Examine] follows one request to each host: the lookup of the name, the connection, the
// TLS handshake, the answer. [Take] receives a part of a blob and measures the time, and
// [Head] returns the first bytes of a blob.
package probe
