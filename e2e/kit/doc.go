// Package kit is what end-to-end tests share: servers, images, a way to run fastpull, and
// comparisons of trees.
//
// What holds for every test:
//   - A test has its own registry and its own daemons, on free loopback ports and sockets in
//     temporary folders, and leaves no process, mount or file.
//   - Image content is made from tar headers up, without fastpull's code, and what an image
//     becomes on disk is judged by what dockerd makes of it.
//   - Every run of fastpull has a PATH on which only a broken unpigz stands and a TMPDIR of
//     its own. Starting the one or leaving something in the other fails the test, whatever
//     else the test is about.
//
// How to read it: main.go builds the programs, run.go runs fastpull as a user, rights.go as
// one with fewer rights. Registry, Dockerd, the proxies and BrokenUnpigz are the servers and
// what is wrong with them. Layer and Image make images, samples.go and shipment.go such that
// several tests need. Tree and DataRoot compare the results.
//
// All but this file has the build tag e2e.
package kit
