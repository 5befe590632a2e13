//go:build unix && !linux

package devdb

import "syscall"

// dieWithParent does nothing: only Linux tells a child of its parent's death.
func dieWithParent(*syscall.SysProcAttr) {}

// removeSegment does nothing: the next start on the same data frees the segment.
func removeSegment(int) {}
