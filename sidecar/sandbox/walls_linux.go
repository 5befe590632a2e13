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
	if raceBuild || unix.Getrlimit(unix.RLIMIT_DATA, &limit) != nil {
		return // the watchdog still stands
	}
	limit.Cur = min(uint64(bytes), limit.Max)
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &limit)
}

// closeInherited closes what the parent's parent may have left open, but for the wire, standard output and
// error, and what the Go runtime polls with.
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

// childLink moves the wire away from the standard files, which package os may poll already, and puts nothing
// in their place.
func childLink() (in, out *os.File, err error) {
	files := [2]*os.File{os.Stdin, os.Stdout}
	for i, name := range []string{"wire in", "wire out"} {
		fd, err := unix.FcntlInt(uintptr(i), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, nil, err
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, nil, err
		}
		if err := files[i].Close(); err != nil {
			return nil, nil, err
		}
		files[i] = os.NewFile(uintptr(fd), name)
	}
	return files[0], files[1], nil
}
