// Command defersync runs a program in whose whole tree fdatasync(2) does nothing and says it was done. BuildKit's databases
// call it at every commit (bbolt, bolt_linux.go) and nothing else of BuildKit does; on files whose data goes through the
// filesystem's journal in order it is not needed for consistency, and the agent's syncfs(2) after a build gives durability.
// fsync(2) stays as it is.
//
// usage: defersync PROGRAM ARGUMENT…
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		fail(2, "usage: defersync PROGRAM ARGUMENT…")
	}
	program, err := exec.LookPath(os.Args[1])
	if err != nil {
		fail(127, err.Error())
	}
	// The filter is this thread's, and the thread that calls execve(2) is the one that lives on.
	runtime.LockOSThread()
	if err := install(filter()); err != nil {
		fail(126, "no seccomp filter: "+err.Error())
	}
	fail(126, syscall.Exec(program, os.Args[1:], os.Environ()).Error())
}

func fail(code int, words string) {
	fmt.Fprintln(os.Stderr, "defersync:", words)
	os.Exit(code)
}

// filter is a classic BPF program over struct seccomp_data: the call's number at 0, the architecture at 4.
func filter() []unix.SockFilter {
	const allow, skip = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO // with errno 0 the call gives 0
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: architecture, Jt: 0, Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_FDATASYNC, Jt: 1, Jf: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: allow},
		{Code: unix.BPF_RET | unix.BPF_K, K: skip},
	}
}

// install needs CAP_SYS_ADMIN: PR_SET_NO_NEW_PRIVS would be inherited, and break setuid programs in build steps.
func install(program []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0)
	runtime.KeepAlive(program)
	return err
}
