package unpack

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fastpull/fastpull/internal/need"
)

// Set in the environment of the test binary when it runs itself again.
const (
	asNobody   = "UNPACK_TEST_ROOTLESS" // as another user
	anotherWay = "UNPACK_TEST_WAY"      // on a machine that looks older: one of ways, or withoutProc
)

func TestMain(m *testing.M) {
	if os.Getenv(asNobody) != "" {
		os.Exit(m.Run())
	}
	if way := os.Getenv(anotherWay); way != "" {
		change := ways[way]
		if way == withoutProc {
			change = func() error { return unix.Mount("tmpfs", "/proc", "tmpfs", 0, "") }
		}
		if err := change(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", way, err)
			os.Exit(1)
		}
	}
	os.Exit(need.RootMain("make devices, owners and mounts", m.Run))
}

const (
	withoutCall = "without openat2"
	withoutProc = "without /proc" // in a mount namespace of its own
)

// ways are what can keep openat2(2) from being used: a kernel that does not have it, and a
// filter that refuses it. This binary runs with the kernel's, if it has one.
var ways = map[string]func() error{
	withoutCall:         func() error { return refuse(unix.SYS_OPENAT2, unix.ENOSYS) },
	"filter with EPERM": func() error { return refuse(unix.SYS_OPENAT2, unix.EPERM) },
}

// refuse has the kernel answer a system call of this process with an error.
func refuse(call uint32, errno unix.Errno) error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, err := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if err != 0 {
		return err
	}
	return nil
}
