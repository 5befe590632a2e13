//go:build !linux

package program

import "syscall"

// WithParent would end a process when the test binary is killed; only Linux can.
func WithParent() *syscall.SysProcAttr { return nil }
