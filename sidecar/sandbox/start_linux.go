package sandbox

import (
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
