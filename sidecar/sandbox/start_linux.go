package sandbox

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const selfExecutable = "/proc/self/exe"

// prepareThread readies the thread that starts all children: they inherit its NoNewPrivs from their first
// instruction on, which a Go program could not set for all of its own threads.
func prepareThread() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }

// childAttributes: own process group, killed with the thread that started it, which lives as long as the
// Pool; and, where apart, own namespaces. A PID namespace would make the child an init that must reap, and a
// mount namespace gives nothing that landlock does not.
func childAttributes(apart bool) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if apart {
		a.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWIPC
		if os.Geteuid() != 0 {
			a.Cloneflags |= unix.CLONE_NEWUSER // without it only root may make the others
		}
	}
	return a
}

// refusesNamespaces reports whether err may come from the namespaces that childAttributes asks for.
func refusesNamespaces(err error) bool {
	for _, refused := range []error{unix.EPERM, unix.EINVAL, unix.ENOSPC, unix.ENOSYS, unix.EUSERS} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}
