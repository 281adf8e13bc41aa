// Command demo shows what fastpull does. It needs a fresh build, and neither a registry, nor
// Docker, nor root:
//
//	go run ./e2e/demo -fastpull ./fastpull
//
// It serves an image of real size, this machine's Go toolchain, from a registry
// inside its own process, and pulls it into a store, lists it, inspects it,
// reads it back and pulls it again. With -image it takes an image of yours in
// place of its own. Every command is printed before it is run, so that it can be
// typed again.
//
// What it promises: everything goes into one new folder, which it names at the
// beginning and removes at the end, after an error and after Ctrl-C too (-keep
// leaves it there); nothing stays mounted; and all of it ends within -timeout.
// The exit code is 0 only if each step did what it should.
//
// How to read it: demo.go has the steps, shell.go prints and runs commands,
// image.go makes the image and serves it, files.go looks at what came out, and
// work.go is the folder.
package main
