//go:build !amd64 && !arm64

package sandbox

import (
	"errors"
	"runtime"
)

func restrictCalls() error {
	return errors.New("there is no filter for " + runtime.GOARCH + ": run on amd64 or arm64")
}
