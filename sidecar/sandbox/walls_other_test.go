//go:build !linux

package sandbox

// probeMain is for the walls of Linux.
func probeMain(string) {}

// containedMain, too.
func containedMain() {}
