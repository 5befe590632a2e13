// Command logline is the LogLineOS sidecar and its tools: one binary beside one Postgres.
package main

import (
	"os"
	"runtime/debug"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/cli"
	"github.com/loglineos/loglineos/sidecar/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == sandbox.ChildArg {
		sandbox.Main() // a child of the sandbox: never returns
	}
	if os.Getenv("GOGC") == "" {
		// The live heap is small and garbage comes fast: collecting less often saves a tenth of the CPU. A sidecar
		// whose heap grows lowers it (app.watchGarbage).
		debug.SetGCPercent(app.GarbagePercentMax)
	}
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
