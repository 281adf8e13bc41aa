// Command oldkernel runs a program as on Linux 4.19: each later system call fails with
// ENOSYS, as it does on such a kernel. It is called with the program and its arguments, and
// becomes that program, so the process ID stays.
//
// The filter knows the calls by their numbers. Linux 4.19 ends with rseq and io_pgetevents,
// and since 5.1 new calls have the same numbers on all architectures. What an older call
// learned later, as a new flag, the filter does not see.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// first is the number of the first call that Linux 4.19 does not have.
var first = map[string]uint32{"amd64": 335, "arm64": 294}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: oldkernel PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "oldkernel:", err)
		os.Exit(125)
	}
}

func run(args []string) error {
	number, ok := first[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("the system calls of %s are not known", runtime.GOARCH)
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	if err := refuseFrom(number); err != nil {
		return fmt.Errorf("refuse system calls: %w", err)
	}
	return unix.Exec(program, args, os.Environ())
}

// refuseFrom has all system calls from a number on fail with ENOSYS, in this process and in
// what it becomes.
func refuseFrom(number uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: number, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	list := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	install := func() unix.Errno {
		_, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&list)))
		return err
	}
	err := install()
	if err == unix.EACCES { // without CAP_SYS_ADMIN it takes this
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		err = install()
	}
	if err != 0 {
		return err
	}
	return nil
}
