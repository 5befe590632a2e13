//go:build !linux

package docs_test

import "syscall"

func withParent() *syscall.SysProcAttr { return nil }
