// Package e2e tests the whole program against real servers: Debian's
// docker-registry, Docker Engines that each test starts for itself, and the
// kernel's overlay file system. It holds no code of fastpull.
//
// The tests have the build tag e2e, and need root, Debian's packages docker.io,
// docker-registry, debootstrap and umoci, e2fsprogs, and GNU tar:
//
//	go test -tags e2e ./e2e/...
//
// Docker 29 comes from package engines, which compiles it once for a machine; that takes
// some minutes.
//
// What it promises:
//   - A test has its own registry and its own daemons, on free loopback ports
//     and sockets in temporary folders, and leaves no process, mount or file.
//   - Image content is made from tar headers up, without fastpull's code, and
//     what an image becomes on disk is judged by what dockerd makes of it.
//   - Every run of fastpull has a PATH on which only a broken unpigz stands
//     and a TMPDIR of its own; starting the one or leaving something in the
//     other fails the test, whatever else the test is about.
//
// How to read it: main_test.go builds the programs, run_test.go runs fastpull;
// registry, dockerd, proxy and unpigz are the servers; layer, image and samples
// make images; tree and dataroot compare what came out; debian and python grow
// the trees of TestRealTrees; grammar makes the layers of TestDifferential up,
// and known, with facts, says why others differ in them. The other files are the
// cases, named after what they show; those of faults also make the table of
// docs/faults.md (-faults.update). FASTPULL_BIN names a program to test
// in place of building one; FASTPULL_RACE=1 builds it with the race detector.
// FASTPULL_ENTRIES=100000 makes the made-up tree of TestRealTrees as large as it
// was when it was compared first. FASTPULL_LAYERS and FASTPULL_SEED make TestDifferential a longer or another
// one; its layers are told by the seed and their number.
package e2e
