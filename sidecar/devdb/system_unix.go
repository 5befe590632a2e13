//go:build unix

package devdb

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// unsupported says why Postgres cannot be started on this system; nil: it can.
func unsupported() error { return nil }

// ownerOf is the user that a file belongs to.
func ownerOf(info fs.FileInfo) (uid int, known bool) {
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, false
	}
	return int(stat.Uid), true
}

// attributes make a process the leader of a session of its own, as the account (nil: as this process).
func (a *account) attributes() *syscall.SysProcAttr {
	own := &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		own.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return own
}

// TryLock takes the lock of a file, which ends with it or its process; false where another has it.
func TryLock(file *os.File) (bool, error) {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	return err == nil, err
}

// send signals a process, which may be gone already.
func send(pid int, signal syscall.Signal) { _ = syscall.Kill(pid, signal) }

// isGone reports whether there is no such process; a zombie is there.
func isGone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
