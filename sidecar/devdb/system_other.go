//go:build !unix

package devdb

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// unsupported says why Postgres cannot be started on this system.
func unsupported() error {
	return errors.New("start a Postgres here: not on " + runtime.GOOS +
		": use WSL or Linux, or `logline serve` beside a Postgres that runs elsewhere")
}

// TryLock refuses: `logline up` is not for this system.
func TryLock(*os.File) (bool, error) { return false, unsupported() }

// What follows is never reached: find refuses first.

func ownerOf(fs.FileInfo) (uid int, known bool) { return 0, false }

func (a *account) attributes() *syscall.SysProcAttr { return nil }

func send(int, syscall.Signal) {}

func isGone(int) bool { return true }

func dieWithParent(*syscall.SysProcAttr) {}

func removeSegment(int) {}
