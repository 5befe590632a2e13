package examples_test

import "syscall"

// withParent ends a process when the test binary is killed.
func withParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
