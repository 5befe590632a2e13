//go:build !linux

package sandbox

import "syscall"

const selfExecutable = "" // os.Executable

func prepareThread() error { return nil }

func childAttributes() *syscall.SysProcAttr { return nil }
