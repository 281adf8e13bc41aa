// Package e2e tests the whole program against real servers: Debian's docker-registry,
// Docker Engines that each test starts for itself, and the kernel's overlay file system.
// It holds no code of fastpull.
//
// The tests have the build tag e2e, and need root, Debian's packages docker.io,
// docker-registry, debootstrap and umoci, e2fsprogs, rpm, and GNU tar:
//
//	go test -tags e2e ./e2e/...
//
// Docker 29 comes from package engines, which compiles it once for a machine; that takes
// some minutes.
//
// # Folders
//
//   - dockerroot: stores, which are data-roots of Docker: equal to what dockerd makes of the
//     same image, whole after a kill, repaired, removed, and run by two Dockers.
//   - engine: images that are loaded into an Engine.
//   - containerd: images in containerd, beside its own pulls and those of a kubelet.
//   - podman: images in the store of Podman, beside Podman itself.
//   - archive: bundles, read by fastpull and by others, loaded and pushed.
//   - registry: registries, mirrors and logins; transfers that fail, are ended, are resumed
//     and are shared. The cases of TestFaults also make the table of docs/faults.md
//     (-faults.update).
//   - serve: clients that pull from fastpull serve, and the conformance suite.
//   - doctor: what doctor says of Engines and registries, and that it changes nothing.
//   - packages: the .deb and the .rpm, installed on bare trees and removed.
//   - destinations: what holds for each destination: disks, rights, planted files, indexes.
//   - fleet: the DaemonSet's pod on a node, the image of fastpull itself, and the steps for CI.
//   - kit: what they share. See its documentation for what holds for every test.
//   - bench and demo are programs; engines builds today's Engines, registries and the suite.
//
// # Variables
//
// FASTPULL_BIN names a program to test in place of building one; FASTPULL_RACE=1 builds it
// with the race detector. FASTPULL_ENTRIES=100000 makes the made-up tree of TestRealTrees as
// large as it was when it was compared first. FASTPULL_LAYERS and FASTPULL_SEED make
// TestDifferential a longer or another one; a seed and a number name a layer.
// FASTPULL_PARITY is a regular expression for the images that TestParity tries, in place of a
// few; -parity.update writes their rows in docs/parity.md.
// FASTPULL_REGISTRIES=1 has TestRegistries try distribution 3, which takes a minute to compile.
//
// # Tags
//
// Two tests have a build tag beside e2e. TestKubelet has kubelet, since one takes eight minutes
// to compile; make test-kubelet runs it. TestSpegel has spegel, and needs the program:
//
//	make test-spegel FASTPULL_SPEGEL=/path/to/spegel
package e2e
