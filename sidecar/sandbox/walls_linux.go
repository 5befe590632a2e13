package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const maxFiles = 16 // wire, stderr, epoll and its eventfd, with room

// raiseWalls takes away from the child what a script must not reach even if it leaves goja. It runs
// before the first script and returns the names of the walls, for the log.
func raiseWalls() (string, error) {
	closeInherited()
	for _, r := range []struct {
		resource int
		bound    uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_NOFILE, maxFiles}} {
		limit := unix.Rlimit{Cur: r.bound, Max: r.bound}
		if err := unix.Setrlimit(r.resource, &limit); err != nil {
			return "", fmt.Errorf("set rlimit %d: %w", r.resource, err)
		}
	}
	walls := []string{"rlimits"}
	// The parent's thread that started us had it set: every thread of ours was born with it.
	if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && set == 1 {
		walls = append(walls, "no_new_privs")
	}
	return strings.Join(walls, " "), nil
}

// limitData bounds the private writable memory of the process, so that one huge allocation fails at once.
func limitData(bytes int64) {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_DATA, &limit) != nil {
		return // the watchdog still stands
	}
	limit.Cur = min(uint64(bytes), limit.Max)
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &limit)
}

// closeInherited closes what the parent's parent may have left open, but for the wire, standard output and error,
// and what the Go runtime polls with.
func closeInherited() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") {
			continue
		}
		_ = unix.Close(fd)
	}
}

// childLink moves the wire from file 0, which package os may poll already, to a file of its own.
func childLink() (in, out *os.File, err error) {
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, nil, err
	}
	wire := os.NewFile(uintptr(fd), "wire")
	return wire, wire, os.Stdin.Close()
}
