// Command bench measures fastpull against other programs. Pulls are compared with docker
// pull, docker load, containerd, Podman, skopeo, crane and other builds of fastpull, and
// extraction with tar and with the libraries of other engines. It needs root, and Debian's
// packages docker.io, docker-registry, pigz, e2fsprogs and strace, for bundle/
// skopeo, for podman/ podman, and for gzip/ isal and libdeflate-tools.
//
//	go run ./e2e/bench -fastpull ./fastpull
//	go run ./e2e/bench -fastpull ./old,./new -against none -run store
//	go run ./e2e/bench -run files
//	go run ./e2e/bench -run files/share -syscalls
//
// # What is measured
//
//	store/multi, store/one  into the store, against docker pull and ctr images pull
//	load/multi, load/py     into an Engine, against docker pull, and docker load of a
//	                        local plain tar; py has 100,000 small files
//	restart/multi, py       into the data-root of an Engine, with a restart of it, against
//	                        the same; until the Engine answers again and has the image
//	containerd1.6/multi, py into Debian's containerd, against ctr images pull
//	containerd2.4/multi, py the same with today's, which has igzip and unpacks four
//	                        layers at a time
//	docker29/multi, py      into today's Engine with containerd's store, against docker
//	                        pull
//	podman/multi, py        into Podman's store, against podman pull
//	baked/hundred           a hundred images that share all layers but one, into the root of
//	                        a containerd that does not run, against starting it and ctr
//	                        images import of an archive that is there
//	rootfs/multi            to a directory
//	again/multi             a second pull of an image that the store has
//	memory                  the peak of multi, and of an image twice its size
//	bundle/plain            to a file with plain layers, against skopeo copy
//	                        docker-archive:
//	bundle/keep             to a file with the registry's bytes, against crane pull
//	line/store, line/token  a small image into the store over a line of 50 ms, without
//	                        and with a token server, against docker pull, skopeo and
//	                        crane
//	line/again              a second pull over that line
//	files/share, go, libs   from a plain tar to files, against tar -x, containerd's
//	                        archive.Apply, go-archive's UntarUncompressed and
//	                        umoci's UnpackLayer
//	files/python            the same with a tree of 100,000 small files
//	files/empty             the peak with a million empty files, against tar -x
//	gzip/share, go, libs    decoding what the standard library has compressed, with
//	                        package inflate, against igzip, libdeflate-gunzip,
//	                        unpigz, and the libraries klauspost, pgzip and stdlib
//	gzip/python             the same with what pigz has compressed
//
// The images and tars are made of directories of this machine, once, and kept
// with the registry in the cache folder; deleting it makes them anew. The trees
// of load/py, files/python and files/empty are made up, the same everywhere.
//
// In files/ fastpull is the program untar, which does what fastpull does for its
// store with the plain bytes of a layer: it writes the files and tar-split, and
// hashes the bytes for the diffID. The others write the files. With -syscalls
// each runs under strace, which counts its calls; those that only wait (futex,
// nanosleep) are more than without strace.
//
// In gzip/ all run on one core, from a file in the page cache to /dev/null, and
// what each of them decodes is hashed once, before the rounds. libdeflate-gunzip
// keeps all of its output in memory, which the others do not have to pay for.
//
// # How
//
// Absolute figures drift with the machine, so that only ratios count, and only
// those of one run: in each round every entrant has its turn. Each turn gets an
// ext4 made for it on a loop device whose file is in memory, and a daemon of its
// own on it where it needs one. To write to such a disk takes the CPU, as no other disk does: with
// -disk DIR the file is there, written by direct I/O. What is flushed to that disk after the work is
// timed by itself, and a second ratio counts it. Engines leave the files of layers
// to the kernel, while fastpull waits until they are on the disk. So fastpull takes
// part with --no-sync as well where images go into an engine's store. The
// registry's share is in the machine's CPU time. After each turn the ID of the image
// that is there is compared with the registry's: a turn that did something else is
// an error, not a figure. A tar is in the page cache before a turn, and the number
// of files and their sizes are compared after it; of fastpull's the tar is made
// again from its files and tar-split.
//
// Whatever happens, at the end no process, mount, loop device or file outside
// the cache folder is left. The disk's file has no name and the loop device
// frees itself, so that even a kill leaves at most a mount.
//
// # How to read it
//
// main.go has the flags, contest.go the entrants of each contest and the rounds, and turn.go
// the measurement of a turn. Entrants that pull are in fastpull.go, engine.go, containerd.go
// and podman.go, those that write a file in carry.go, extractors in files.go, and decoders in
// gzip.go. Their input comes from images.go, registry.go and accesslog.go, and from tars.go and
// tree.go. syscalls.go reads what strace counts. tools.go builds the programs untar and
// gunzip, and those of the module peers. line.go is the slow line. disk.go, server.go,
// process.go and machine.go make what a turn runs on. stats.go and report.go print.
package main
