package sandbox

import (
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

const selfExecutable = "/proc/self/exe"

// prepareThread readies the thread that starts all children: they inherit its NoNewPrivs from their first
// instruction on, which a Go program could not set for all of its own threads.
func prepareThread() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }

// childAttributes: own process group, killed with the thread that started it. That thread lives as long as
// the Pool.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// newLink makes the wire: one socket, which is the child's file 0.
func newLink(cmd *exec.Cmd) (link io.ReadWriteCloser, given []*os.File, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	far := os.NewFile(uintptr(pair[1]), "wire of the child")
	cmd.Stdin = far
	return os.NewFile(uintptr(pair[0]), "wire"), []*os.File{far}, nil
}
