// Command bench measures fastpull against what else pulls images: docker pull,
// containerd, docker load, and other builds of fastpull. It needs root, and
// Debian's packages docker.io, docker-registry, pigz and e2fsprogs.
//
//	go run ./e2e/bench -fastpull ./fastpull
//	go run ./e2e/bench -fastpull ./old,./new -against none -run store
//
// # What is measured
//
//	store/multi, store/one  into the store, against docker pull and ctr images pull
//	load/multi              into an Engine, against docker load of a local plain tar
//	again/multi             a second pull of an image that the store has
//	memory                  the peak of multi, and of an image twice its size
//
// The images are made of directories of this machine, once, and kept with the
// registry in the cache folder; deleting it makes them anew.
//
// # How
//
// Absolute figures drift with the machine, so that only ratios count, and only
// those of one run: in each round every entrant has its turn. Each turn gets an
// ext4 made for it on a loop device whose file is in memory, and a daemon of its
// own on it where it needs one. What is flushed to that disk after the work is
// timed by itself. The registry's share is in the machine's CPU time. After each
// turn the ID of the image that is there is compared with the registry's: a turn
// that did something else is an error, not a figure.
//
// Whatever happens, at the end no process, mount, loop device or file outside
// the cache folder is left. The disk's file has no name and the loop device
// frees itself, so that even a kill leaves at most a mount.
//
// # How to read it
//
// main.go has the flags, contest.go who competes and the rounds, turn.go one
// turn's measuring. fastpull.go, engine.go and containerd.go are the entrants;
// images.go, registry.go and accesslog.go the source; disk.go, server.go,
// process.go and machine.go the ground. stats.go and report.go tell.
package main
