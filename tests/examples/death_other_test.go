//go:build !linux

package examples_test

import "syscall"

func withParent() *syscall.SysProcAttr { return nil }
