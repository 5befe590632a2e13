//go:build !linux

package supabase_test

import "syscall"

func withParent() *syscall.SysProcAttr { return nil }
