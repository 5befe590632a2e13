//go:build amd64 || arm64

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A filter of system calls is a program for the kernel's packet filter machine (seccomp(2)). It reads the
// record seccomp_data: number (4 bytes), architecture (4), instruction pointer (8), six arguments (8 each).
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

// commonCalls are what Go's runtime needs once the wire is open: memory, threads of its own, its poller,
// signals to itself, clocks. No call here names a path, a process or an address.
var commonCalls = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_FUTEX, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT,
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_MREMAP, unix.SYS_BRK,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_SIGALTSTACK,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_RESTART_SYSCALL,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_CLOCK_GETTIME, unix.SYS_GETTIMEOFDAY,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETRANDOM, unix.SYS_SET_ROBUST_LIST,
	unix.SYS_RSEQ,
}

const prSetVMA = 0x53564d41 // prctl: name a mapping, as Go's runtime does

// filter is a program under construction.
type filter struct{ program []unix.SockFilter }

func (f *filter) add(code uint16, k uint32, yes, no uint8) {
	f.program = append(f.program, unix.SockFilter{Code: code, Jt: yes, Jf: no, K: k})
}

func (f *filter) load(offset uint32) { f.add(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset, 0, 0) }
func (f *filter) give(action uint32) { f.add(unix.BPF_RET|unix.BPF_K, action, 0, 0) }

// argument is one condition: the low half of an argument, of which the bits of mask have this value. The
// kernel reads no more than the low half of those that stand here.
type argument struct{ index, mask, value uint32 }

// allow lets a call pass whose arguments meet all conditions; where they do not, it is refused.
func (f *filter) allow(call uint32, conditions ...argument) {
	if len(conditions) == 0 {
		f.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, call, 0, 1)
		f.give(unix.SECCOMP_RET_ALLOW)
		return
	}
	refused := uint8(4*len(conditions) + 1) // where the refusal stands, after the tests and "allow"
	f.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, call, 0, refused+1)
	for _, c := range conditions {
		f.load(dataArgs + 8*c.index)
		f.add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, c.mask, 0, 0)
		f.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, c.value, 1, 0)
		refused -= 4
		f.add(unix.BPF_JMP|unix.BPF_JA, uint32(refused), 0, 0)
	}
	f.give(unix.SECCOMP_RET_ALLOW)
	f.give(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
}

// callFilter makes the program. A refused call answers EPERM: Go's runtime may ask for more in its next
// version, and lives on then. A call of another architecture, whose numbers mean other things, kills.
func callFilter(pid uint32) []unix.SockFilter {
	var f filter
	f.load(dataArch)
	f.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, auditArch, 1, 0)
	f.give(unix.SECCOMP_RET_KILL_PROCESS)
	f.load(dataNumber)
	f.add(unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K, 0x40000000, 0, 1) // x32, on amd64
	f.give(unix.SECCOMP_RET_KILL_PROCESS)
	for _, call := range append(commonCalls[:len(commonCalls):len(commonCalls)], archCalls...) {
		f.allow(call)
	}
	const all = 0xffffffff
	f.allow(unix.SYS_MMAP, argument{2, unix.PROT_EXEC, 0})
	f.allow(unix.SYS_MPROTECT, argument{2, unix.PROT_EXEC, 0})
	f.allow(unix.SYS_CLONE, argument{0, unix.CLONE_THREAD | unix.CLONE_VM, unix.CLONE_THREAD | unix.CLONE_VM})
	f.allow(unix.SYS_TGKILL, argument{0, all, pid})
	f.allow(unix.SYS_PRLIMIT64, argument{0, all, 0}, argument{1, all, unix.RLIMIT_DATA})
	f.allow(unix.SYS_PRCTL, argument{0, all, prSetVMA})
	archAllow(&f)
	// The C library tries this one first and, on this answer, clone.
	f.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.SYS_CLONE3, 0, 1)
	f.give(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	f.give(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	return f.program
}

// restrictCalls puts all threads under the filter, and then tries it.
func restrictCalls() error {
	if raceBuild {
		return errors.New("the race detector needs more calls: build without -race")
	}
	program := callFilter(uint32(os.Getpid()))
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	stray, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if errno != 0 {
		return fmt.Errorf("set filter: %w: take a kernel with CONFIG_SECCOMP_FILTER", errno)
	}
	if stray != 0 {
		return fmt.Errorf("set filter: thread %d has one of its own", stray)
	}
	if _, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("set filter: it lets a socket be made (%w)", err)
	}
	return nil
}
