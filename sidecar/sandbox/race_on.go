//go:build race

package sandbox

// raceBuild: the race detector maps far more memory than a script may have, so RLIMIT_DATA stays off.
const raceBuild = true
