package devdb

import "syscall"

// dieWithParent has the kernel send an immediate shutdown at the parent's death (prctl(2),
// PR_SET_PDEATHSIG). Go sets it after the change of user, which would clear it.
func dieWithParent(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = signalImmediate }

// removeSegment frees a SysV shared memory segment (shmctl(2), IPC_RMID): the kernel keeps one for every
// killed postmaster until its next start, and has 4096.
func removeSegment(id int) { _, _, _ = syscall.Syscall(syscall.SYS_SHMCTL, uintptr(id), 0, 0) }
