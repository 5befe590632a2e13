//go:build !linux

package chaos_test

import "syscall"

func withParent() *syscall.SysProcAttr { return nil }
