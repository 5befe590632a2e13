package program

import "syscall"

// WithParent ends a process when the test binary is killed.
func WithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
