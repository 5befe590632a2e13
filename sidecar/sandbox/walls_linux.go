package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxFiles = 16    // wire, stderr, epoll and its eventfd, with room
	nobody   = 65534 // the user and group that own nothing
)

// enclose takes away from the child what a script must not reach even if it leaves goja, before the first
// script. It returns the wire and the walls. An error means that the child cannot serve; a wall that this
// kernel does not have is none.
func enclose(kernel bool, memory int64) (in, out *os.File, walls []Wall, err error) {
	closeInherited()
	if in, out, err = childLink(); err != nil {
		return nil, nil, nil, fmt.Errorf("open wire: %w", err)
	}
	for _, raise := range []struct {
		name string
		wall func() error
	}{
		{WallRlimits, func() error { return boundResources(kernel, memory) }},
		{WallNoNewPrivs, hasNoNewPrivs},
		{WallUser, becomeNobody},
		{WallNotDumpable, func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }},
		{WallLandlock, restrictFiles},
		{WallSeccomp, restrictCalls},
	} {
		w := Wall{Name: raise.name}
		if err := raise.wall(); err != nil {
			w.Missing = err.Error()
		}
		walls = append(walls, w)
	}
	return in, out, walls, nil
}

// boundResources sets what no script may ever need. The soft limit of RLIMIT_DATA follows each run's own.
func boundResources(kernel bool, memory int64) error {
	data := uint64(dataBytes(memory))
	if !kernel {
		data = 4 * data // a run may state more than the manifest's most, in tests
	}
	bounds := []struct {
		resource int
		bound    uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_NOFILE, maxFiles}, {unix.RLIMIT_DATA, data}}
	if raceBuild {
		bounds = bounds[:3] // the detector maps far more than a script may have
	}
	for _, r := range bounds {
		limit := unix.Rlimit{Cur: r.bound, Max: r.bound}
		if err := unix.Setrlimit(r.resource, &limit); err != nil {
			return fmt.Errorf("set rlimit %d: %w", r.resource, err)
		}
	}
	limitData(memory)
	return nil
}

// dataBytes is what the kernel lets a child allocate whose heap may have so many bytes.
func dataBytes(memory int64) int64 { return max(2*memory, 96<<20) }

// limitData bounds the private writable memory of the process, so that one huge allocation fails at once.
func limitData(memory int64) {
	var limit unix.Rlimit
	if raceBuild || unix.Getrlimit(unix.RLIMIT_DATA, &limit) != nil {
		return // the watchdog still stands
	}
	limit.Cur = min(uint64(dataBytes(memory)), limit.Max)
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &limit)
}

// hasNoNewPrivs looks: the parent's thread that started us had it set, so every thread of ours was born with
// it.
func hasNoNewPrivs() error {
	set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err == nil && set != 1 {
		err = errors.New("the starting thread did not set it")
	}
	return err
}

// becomeNobody leaves root, after the start, so that an executable below a closed directory starts too. A
// change of user clears the death signal: it is set anew, on the thread that runs main, and whoever's parent
// died in between leaves.
func becomeNobody() error {
	if os.Geteuid() != 0 {
		return nil
	}
	parent := os.Getppid()
	if err := syscall.Setgroups([]int{}); err != nil {
		return fmt.Errorf("drop groups: %w: give the sidecar CAP_SETGID or a user of its own", err)
	}
	if err := syscall.Setresgid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("set group: %w: give the sidecar CAP_SETGID or a user of its own", err)
	}
	if err := syscall.Setresuid(nobody, nobody, nobody); err != nil {
		return fmt.Errorf("set user: %w: give the sidecar CAP_SETUID or a user of its own", err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set death signal: %w", err)
	}
	if os.Getppid() != parent {
		os.Exit(exitProtocol)
	}
	return nil
}

// What a landlock ruleset may handle grows with its version (landlock(7)).
const (
	fileRights1 = 1<<13 - 1
	fileRights2 = fileRights1 | unix.LANDLOCK_ACCESS_FS_REFER
	fileRights3 = fileRights2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	fileRights5 = fileRights3 | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	netRights4  = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	scopes6     = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
)

// restrictFiles puts all threads under a ruleset that handles everything and allows nothing.
func restrictFiles() error {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0,
		unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("the kernel has no landlock: %w: take Linux 5.13 or later with lsm=landlock", errno)
	}
	rules := unix.LandlockRulesetAttr{Handled_access_fs: fileRights1}
	size := unsafe.Sizeof(rules.Handled_access_fs)
	if version >= 2 {
		rules.Handled_access_fs = fileRights2
	}
	if version >= 3 {
		rules.Handled_access_fs = fileRights3
	}
	if version >= 5 {
		rules.Handled_access_fs = fileRights5
	}
	if version >= 4 {
		rules.Handled_access_net = netRights4
		size += unsafe.Sizeof(rules.Handled_access_net)
	}
	if version >= 6 {
		rules.Scoped = scopes6
		size += unsafe.Sizeof(rules.Scoped)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), size, 0)
	if errno != 0 {
		return fmt.Errorf("make ruleset: %w", errno)
	}
	errno = unix.EINVAL
	if version >= 8 {
		_, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, unix.LANDLOCK_RESTRICT_SELF_TSYNC, 0)
	}
	if errno == unix.EINVAL { // an older kernel: a ruleset is one thread's
		_, _, errno = syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
	}
	err := unix.Close(int(fd))
	switch {
	case errno == unix.ENOTSUP:
		return errors.New("linked with C, whose threads Go cannot reach: build with CGO_ENABLED=0 (make build)")
	case errno != 0:
		return fmt.Errorf("restrict threads: %w", errno)
	}
	return err
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
