//go:build !failpoints

package failpoint

// Hit passes a place. It does nothing without the build tag failpoints.
func Hit(string) {}

// Err passes a place that can fail. It is nil without the build tag failpoints.
func Err(string) error { return nil }

// Disabled reports whether a defense is switched off. It is false without the build tag failpoints.
func Disabled(string) bool { return false }
