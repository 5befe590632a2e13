package sandbox

import "golang.org/x/sys/unix"

const (
	auditArch = unix.AUDIT_ARCH_X86_64
	archSetFS = 0x1002 // arch_prctl: the thread's own storage
)

var archCalls = []uint32{unix.SYS_EPOLL_WAIT, unix.SYS_TIME}

func archAllow(f *filter) { f.allow(unix.SYS_ARCH_PRCTL, argument{0, 0xffffffff, archSetFS}) }
