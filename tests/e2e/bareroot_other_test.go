//go:build !linux

package e2e_test

import "errors"

const bareRootArg = "e2e-bare-root"

func enterBareRoot([]string) error { return errors.New("only on Linux") }
