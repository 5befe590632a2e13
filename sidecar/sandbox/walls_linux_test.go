package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const probeArg = "wall-probe"

// probes are what an escape from the interpreter would try. None does harm where it succeeds: what could is
// asked with arguments that the kernel refuses for another reason.
var probes = map[string]func(parent int) error{
	"make a TCP socket":      func(int) error { return socket(unix.AF_INET, unix.SOCK_STREAM) },
	"make a UDP socket":      func(int) error { return socket(unix.AF_INET, unix.SOCK_DGRAM) },
	"make a Unix socket":     func(int) error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) },
	"make a netlink socket":  func(int) error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) },
	"connect":                raw(unix.SYS_CONNECT, 0, 0, 0),
	"send":                   raw(unix.SYS_SENDTO, 0, 0, 0, 0, 0, 0),
	"receive a file":         raw(unix.SYS_RECVMSG, 0, 0, 0),
	"read a file":            func(int) error { return open("/etc/passwd", unix.O_RDONLY) },
	"read a folder":          func(int) error { return open("/", unix.O_RDONLY|unix.O_DIRECTORY) },
	"open its own memory":    func(int) error { return open("/proc/self/mem", unix.O_RDWR) },
	"open with openat2":      raw(unix.SYS_OPENAT2, 0, 0, 0, 0),
	"look at a file":         func(int) error { return unix.Stat("/etc/passwd", new(unix.Stat_t)) },
	"make a folder":          func(int) error { return unix.Mkdir("/proc/wall", 0o700) },
	"remove a file":          func(int) error { return unix.Unlink("/nonexistent") },
	"change the folder":      func(int) error { return unix.Chdir("/") },
	"read the environment":   func(p int) error { return open(fmt.Sprintf("/proc/%d/environ", p), 0) },
	"run a program":          func(int) error { return unix.Exec("/nonexistent", []string{"x"}, nil) },
	"run a program by file":  raw(unix.SYS_EXECVEAT, ^uintptr(0), 0, 0, 0, 0),
	"fork":                   raw(unix.SYS_CLONE, unix.CLONE_SIGHAND),
	"fork with its memory":   raw(unix.SYS_CLONE, unix.CLONE_SIGHAND|unix.CLONE_FILES),
	"be traced":              raw(unix.SYS_PTRACE, 0xffff),
	"trace the parent":       func(p int) error { return unix.PtraceSetOptions(p, 0) },
	"read another's memory":  raw(unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0, 0xff),
	"write another's memory": raw(unix.SYS_PROCESS_VM_WRITEV, 1, 0, 0, 0, 0, 0xff),
	"signal the parent":      func(p int) error { return unix.Kill(p, 0) },
	"signal its group":       func(int) error { return unix.Kill(0, 0) },
	"signal a thread":        func(p int) error { return unix.Tgkill(p, p, 0) },
	"signal by tkill":        func(p int) error { return raw(unix.SYS_TKILL, uintptr(p), 0)(p) },
	"queue a signal":         raw(unix.SYS_RT_SIGQUEUEINFO, 0, 0, 0),
	"signal through a file":  raw(unix.SYS_FCNTL, 0, unix.F_SETOWN, 1),
	"open a process":         raw(unix.SYS_PIDFD_OPEN, 1, 0xff),
	"take another's file":    raw(unix.SYS_PIDFD_GETFD, ^uintptr(0), 0, 0),
	"mount":                  func(int) error { return unix.Mount("", "/nonexistent", "tmpfs", 0, "") },
	"change the root":        func(int) error { return unix.Chroot("/nonexistent") },
	"take a user":            func(int) error { return unix.Setresuid(-1, -1, -1) },
	"take a group":           func(int) error { return unix.Setresgid(-1, -1, -1) },
	"take a capability":      raw(unix.SYS_CAPSET, 0, 0),
	"make namespaces":        raw(unix.SYS_UNSHARE, 0xffff),
	"enter a namespace":      raw(unix.SYS_SETNS, ^uintptr(0), 0),
	"load a module":          raw(unix.SYS_FINIT_MODULE, ^uintptr(0), 0, 0xff),
	"load a filter":          raw(unix.SYS_SECCOMP, 0xff, 0, 0),
	"make a ring":            raw(unix.SYS_IO_URING_SETUP, 0, 0),
	"load a BPF program":     raw(unix.SYS_BPF, 0xffff, 0, 0),
	"catch page faults":      raw(unix.SYS_USERFAULTFD, 0xff),
	"count events":           raw(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0xff),
	"make a file of memory":  raw(unix.SYS_MEMFD_CREATE, 0, 0xffff),
	"map code":               func(int) error { return mapPage(unix.PROT_READ | unix.PROT_EXEC) },
	"make a page code":       raw(unix.SYS_MPROTECT, 1, 4096, unix.PROT_EXEC),
	"control a device":       raw(unix.SYS_IOCTL, 0, 0xffff, 0),
	"read keys":              raw(unix.SYS_KEYCTL, 0xffff, 0, 0),
	"make System V memory":   raw(unix.SYS_SHMGET, 0, 0, 0),
	"be dumpable":            raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 7),
	"outlive the parent":     raw(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0),
	"limit the parent":       limitOf,
	"raise another limit":    raw(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 0, 0),
	"move to a processor":    raw(unix.SYS_SCHED_SETAFFINITY, 0, 0, 0),
	"set the clock":          raw(unix.SYS_CLOCK_SETTIME, 0xff, 0),
	"name the machine":       raw(unix.SYS_SETHOSTNAME, 0, 0xffff),
	"reboot":                 raw(unix.SYS_REBOOT, 0, 0, 0),
}

func limitOf(process int) error {
	return raw(unix.SYS_PRLIMIT64, uintptr(process), unix.RLIMIT_DATA, 0, 0)(process)
}

func socket(domain, kind int) error {
	fd, err := unix.Socket(domain, kind, 0)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags, 0)
	if err == nil {
		err = unix.Close(fd)
	}
	return err
}

func mapPage(protection int) error {
	page, err := unix.Mmap(-1, 0, 4096, protection, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err == nil {
		err = unix.Munmap(page)
	}
	return err
}

// raw makes a call whose arguments are such that it does nothing.
func raw(call uintptr, args ...uintptr) func(int) error {
	var a [6]uintptr
	copy(a[:], args)
	return func(int) error {
		if _, _, errno := unix.Syscall6(call, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
			return errno
		}
		return nil
	}
}

// probeMain is the other process of these tests: it raises what mode says, tries everything, and tells.
func probeMain(mode string) {
	parent := os.Getppid()
	out := os.Stdout
	var failed error
	switch mode {
	case "bare":
	case "enclosed":
		_, wire, walls, err := enclose(false, DefaultLimits().MemoryBytes)
		out, failed = wire, err
		for _, w := range walls {
			if w.Missing != "" {
				failed = errors.Join(failed, errors.New(w.Name+": "+w.Missing))
			}
		}
	case WallLandlock:
		failed = restrictFiles()
	case WallUser:
		failed = becomeNobody()
	case "another architecture":
		if failed = restrictCalls(); failed == nil {
			_, _, failed = unix.Syscall(0x40000000|unix.SYS_GETPID, 0, 0, 0)
		}
	}
	if failed != nil {
		fmt.Fprintln(os.Stderr, failed)
		os.Exit(1)
	}
	found := map[string]int{}
	for name, probe := range probes {
		var errno syscall.Errno
		done := make(chan struct{})
		go func() { // every thread must be behind the wall, not only this one
			defer close(done)
			runtime.LockOSThread() // never unlocked: each probe has a thread of its own
			errors.As(probe(parent), &errno)
		}()
		<-done
		found[name] = int(errno)
	}
	encoded, err := json.Marshal(found)
	if err == nil {
		_, err = out.Write(encoded)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// static returns this program, or, where it is linked with C, a copy that is not: the sidecar is none either.
func static(t *testing.T) string {
	t.Helper()
	build, _ := debug.ReadBuildInfo()
	if build == nil || !slices.Contains(build.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"}) {
		return os.Args[0]
	}
	path := filepath.Join(t.TempDir(), "static")
	cmd := exec.Command("go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build a program without C: %v: %s", err, out)
	}
	return path
}

func probed(t *testing.T, program, mode string) map[string]syscall.Errno {
	t.Helper()
	var said strings.Builder
	var answer bytes.Buffer
	start := func(bool) *exec.Cmd {
		cmd := exec.Command(program, probeArg, mode)
		cmd.Stdout, cmd.Stderr = &answer, &said
		cmd.SysProcAttr = childAttributes(false)
		return cmd
	}
	cmd := start(false)
	var err error
	if mode == "bare" {
		err = cmd.Start()
	} else {
		s, err := newStarter() // with it comes NoNewPrivs
		if err != nil {
			t.Fatal(err)
		}
		defer s.stop()
		cmd, _, err = s.start(start)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatalf("%s: %v: %s", mode, err, said.String())
	}
	out := answer.Bytes()
	var found map[string]syscall.Errno
	if err := json.Unmarshal(out, &found); err != nil || len(found) != len(probes) {
		t.Fatalf("%s: %v: %s", mode, err, out)
	}
	return found
}

// TestWallsRefuse tries each call behind all walls and, as the control, without: there it is not refused, or
// the kernel is asked in vain for another reason. Then single walls are tried alone.
func TestWallsRefuse(t *testing.T) {
	t.Parallel()
	program := static(t)
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		walled, bare := probed(t, program, "enclosed"), probed(t, program, "bare")
		for _, name := range slices.Sorted(maps.Keys(probes)) {
			if walled[name] != unix.EPERM {
				t.Errorf("%s: %v behind the walls, want EPERM", name, walled[name])
			}
			if bare[name] == unix.EPERM && os.Geteuid() == 0 {
				t.Errorf("%s: EPERM without walls, so this shows nothing", name)
			}
		}
	})
	t.Run(WallLandlock, func(t *testing.T) {
		t.Parallel()
		found := probed(t, program, WallLandlock)
		for name, want := range map[string]syscall.Errno{
			"read a file": unix.EACCES, "read a folder": unix.EACCES,
			"open its own memory": unix.EACCES, "read the environment": unix.EACCES,
			"signal the parent": unix.EPERM, "make a TCP socket": 0} {
			if found[name] != want {
				t.Errorf("%s: %v, want %v", name, found[name], want)
			}
		}
	})
	t.Run(WallUser, func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			t.Skip("not root: the wall is that a child of root becomes nobody")
		}
		found := probed(t, program, WallUser)
		for name, want := range map[string]syscall.Errno{"read the environment": unix.EACCES,
			"signal the parent": unix.EPERM, "raise another limit": 0, "read a file": 0} {
			if found[name] != want {
				t.Errorf("%s: %v, want %v", name, found[name], want)
			}
		}
	})
}

func TestCallOfAnotherArchitectureKills(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("not amd64: x32, the other architecture of the test, is amd64's")
	}
	cmd := exec.Command(os.Args[0], probeArg, "another architecture")
	runtime.LockOSThread() // never unlocked: what the thread gave up goes with it
	if err := prepareThread(); err != nil {
		t.Fatal(err)
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("got %v", err)
	}
	if status, _ := exit.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGSYS {
		t.Errorf("ended with %v, want SIGSYS", exit)
	}
}

// TestPoolNamesItsWalls compares what the pool says with what the kernel says of its children.
func TestPoolNamesItsWalls(t *testing.T) {
	t.Parallel()
	p := setup(t)
	if err := p.Warm(t.Context()); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, w := range p.Walls() {
		said[w.Name] = w.Missing
	}
	for _, name := range []string{WallRlimits, WallNoNewPrivs, WallNamespaces, WallUser, WallNotDumpable,
		WallLandlock, WallSeccomp} {
		if missing, known := said[name]; !known {
			t.Errorf("says nothing of %s", name)
		} else if missing != "" {
			t.Logf("%s does not stand here: %s", name, missing)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.children) != 2 {
		t.Fatalf("%d children", len(p.children))
	}
	for c := range p.children {
		dir := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
		status, err := os.ReadFile(dir + "status")
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Join(strings.Fields(string(status)), " ")
		for name, shown := range map[string]string{WallNoNewPrivs: "NoNewPrivs: 1", WallSeccomp: "Seccomp: 2",
			WallUser: "CapEff: 0000000000000000"} {
			if stands := strings.Contains(words, shown); stands != (said[name] == "") {
				t.Errorf("%s stands: %t, but the pool says %q", name, stands, said[name])
			}
		}
		if os.Geteuid() != 0 {
			continue // what is not dumpable is root's to look at
		}
		if !strings.Contains(words, "Uid: 65534 65534 65534 65534 Gid: 65534 65534 65534 65534") {
			t.Errorf("the child is not nobody: %s", words)
		}
		for _, kind := range []string{"net", "ipc"} {
			mine, err1 := os.Readlink("/proc/self/ns/" + kind)
			its, err2 := os.Readlink(dir + "ns/" + kind)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if apart := mine != its; apart != (said[WallNamespaces] == "") {
				t.Errorf("%s namespace of its own: %t, but the pool says %q", kind, apart, said[WallNamespaces])
			}
		}
		var info unix.Stat_t
		if err := unix.Stat(dir+"environ", &info); err != nil || info.Uid != 0 {
			t.Errorf("the child is dumpable: its files belong to %d (%v)", info.Uid, err)
		}
	}
}

// containedMain is a parent in a container that refuses new namespaces.
func containedMain() {
	var f filter
	f.load(dataNumber)
	f.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, unix.SYS_CLONE, 0, 4)
	f.load(dataArgs)
	f.add(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, unix.CLONE_NEWNET, 0, 0)
	f.add(unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K, 0, 1, 0)
	f.give(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM))
	f.give(unix.SECCOMP_RET_ALLOW)
	fprog := unix.SockFprog{Len: uint16(len(f.program)), Filter: &f.program[0]}
	runtime.LockOSThread()
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		err = errors.Join(err, errno)
	}
	p, failed := New(Options{Workers: 1})
	if err = errors.Join(err, failed); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer p.Close()
	got := p.RunCode(context.Background(), run("return input.n"))
	fmt.Println(string(got.Output), got.Err, p.Walls()[0])
}

func TestAPoolWorksWhereNamespacesAreRefused(t *testing.T) {
	t.Parallel()
	cmd, said := helper(t, "contained")
	err := cmd.Wait()
	if err != nil || !strings.HasPrefix(said, "1 <nil> {namespaces refused: ") {
		t.Errorf("%s, %v", said, err)
	}
}

func TestBreachNamesWhatStrictModeDemands(t *testing.T) {
	t.Parallel()
	standing := []Wall{{Name: WallLandlock}, {Name: WallSeccomp}, {Name: WallUser, Missing: "no right"}}
	for want, walls := range map[string][]Wall{
		"":                               standing,
		"seccomp (no filter)":            {{Name: WallLandlock}, {Name: WallSeccomp, Missing: "no filter"}},
		"landlock (old kernel), seccomp": {{Name: WallLandlock, Missing: "old kernel"}},
		"landlock, seccomp":              nil,
		"landlock (linked with C), seccomp (no)": {{Name: WallLandlock, Missing: "linked with C"},
			{Name: WallSeccomp, Missing: "no"}},
	} {
		if got := Breach(walls); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestFilterLetsOnlyWhatItNames reads the program as the kernel would, for every call and architecture.
func TestFilterLetsOnlyWhatItNames(t *testing.T) {
	t.Parallel()
	program := callFilter(77)
	const allow, refuse = uint32(unix.SECCOMP_RET_ALLOW), unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	named := slices.Concat(commonCalls, archCalls)
	for call := range uint32(1000) {
		want := refuse
		if slices.Contains(named, call) {
			want = allow
		}
		switch call {
		case unix.SYS_CLONE3:
			want = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
		case unix.SYS_MMAP, unix.SYS_MPROTECT: // of no arguments: no right to execute
			want = allow
		}
		if got := judge(t, program, call, auditArch, [6]uint64{}); got != want {
			t.Errorf("call %d: %#x, want %#x", call, got, want)
		}
		if got := judge(t, program, call, auditArch^1, [6]uint64{}); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("call %d of another architecture: %#x", call, got)
		}
	}
	threads := uint64(unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND)
	for _, test := range []struct {
		call uint32
		args [6]uint64
		want uint32
	}{
		{unix.SYS_CLONE, [6]uint64{threads}, allow},
		{unix.SYS_CLONE, [6]uint64{unix.CLONE_VM | uint64(unix.SIGCHLD)}, refuse},
		{unix.SYS_CLONE, [6]uint64{unix.CLONE_THREAD}, refuse},
		{unix.SYS_TGKILL, [6]uint64{77, 78, 23}, allow},
		{unix.SYS_TGKILL, [6]uint64{1, 1, 9}, refuse},
		{unix.SYS_MMAP, [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_WRITE}, allow},
		{unix.SYS_MMAP, [6]uint64{0, 4096, unix.PROT_READ | unix.PROT_EXEC}, refuse},
		{unix.SYS_PRLIMIT64, [6]uint64{0, unix.RLIMIT_DATA}, allow},
		{unix.SYS_PRLIMIT64, [6]uint64{1, unix.RLIMIT_DATA}, refuse},
		{unix.SYS_PRLIMIT64, [6]uint64{0, unix.RLIMIT_NOFILE}, refuse},
		{unix.SYS_PRCTL, [6]uint64{prSetVMA}, allow},
		{unix.SYS_PRCTL, [6]uint64{unix.PR_SET_DUMPABLE, 1}, refuse},
	} {
		if got := judge(t, program, test.call, auditArch, test.args); got != test.want {
			t.Errorf("call %d of %v: %#x, want %#x", test.call, test.args, got, test.want)
		}
	}
}

// judge runs a filter program over one call.
func judge(t *testing.T, program []unix.SockFilter, call, arch uint32, args [6]uint64) uint32 {
	t.Helper()
	record := struct {
		number, arch uint32
		at           uint64
		args         [6]uint64
	}{call, arch, 0, args}
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&record)), unsafe.Sizeof(record))
	var a uint32
	for at := 0; at < len(program); at++ {
		switch i := program[at]; i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = *(*uint32)(unsafe.Pointer(&bytes[i.K]))
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= i.K
		case unix.BPF_JMP | unix.BPF_JA:
			at += int(i.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			if i.Code == unix.BPF_JMP|unix.BPF_JEQ|unix.BPF_K && a == i.K ||
				i.Code == unix.BPF_JMP|unix.BPF_JGE|unix.BPF_K && a >= i.K {
				at += int(i.Jt)
			} else {
				at += int(i.Jf)
			}
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		default:
			t.Fatalf("instruction %d: code %#x", at, i.Code)
		}
	}
	t.Fatal("the program does not end")
	return 0
}
