// Package doctor examines a host and reports whether it can pull: what is stuck now, what
// would get stuck, what the host and its Engines lack, and how a registry answers.
//
// # Promises
//
// The package changes nothing on the host, except by [WriteDropIn], which the caller has to
// call. Trials use temporary directories (package checkup), mounts that only one thread sees,
// and processes that it ends. The directories are removed, and their parents keep their
// modification times.
//
// Every examination has a deadline. Only the files with credentials and certificates are read without
// one, as a pull reads them. What the user may not examine, or what is missing, is a
// finding too ([Unknown]), not an error: the other examinations go on.
//
// A finding contains no credentials. It shows only a few named environment variables.
//
// # Other programs
//
// The doctor runs the decompressors that Engines would run, to try them, and the package
// managers that know the packages of their files. A pull runs neither. Beside them fastpull
// runs credential helpers and the command of --restart-command (packages registry and
// service).
//
// If this process is root, the programs run as the user nobody or as the Engine's own user.
// They run in the root directory of their Engine, with limits, and without a way to gain
// privileges. In another root directory they have no network, and see no other processes.
// They end with this process. None of them is found by this process's PATH, except those
// that a Podman in it would run.
//
// # How it works
//
// [Run] makes one examination after the other. Each reports its findings as it goes. A
// finding has a level, a sentence and, if there is a way out, lines to paste.
//
// Processes that work for an Engine are watched for some seconds (watch.go): the bytes that
// they read and write, their CPU time, and the pipes that they wait in (pipe.go). A process
// is stuck if it has input to read and space to write to, and makes no progress. An Engine's
// decompressor is found as the Engine finds it (roles.go, decompressors.go). It is fed with
// generated streams (streams.go) whose plain bytes are known (trial.go, sandbox.go).
package doctor
