//go:build !linux

package sandbox

import "syscall"

const selfExecutable = "" // os.Executable

func prepareThread() error { return nil }

func childAttributes(bool) *syscall.SysProcAttr { return nil }

func refusesNamespaces(error) bool { return false }
