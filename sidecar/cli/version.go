package cli

import (
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/loglineos/loglineos/sidecar/app"
)

const versionHelp = `Usage: logline version [--json]

Prints the release, with the commit where the build knows it, the Go that built it, and which walls this
machine puts around strangers' code: it starts a child of the sandbox and looks. A wall that is missing says
why, and what to do; strict_mode in the manifest demands landlock and seccomp.

    --json   one object: version, release, commit, go, platform, walls

Exit codes: 0 done, 1 it failed, 2 wrong use.

Examples:

    logline version
    logline version --json | jq -r .walls.landlock
`

func runVersion(s signals, args []string, out, _ io.Writer) error {
	var asJSON bool
	err := parse("version", versionHelp, args, out, func(flags *flag.FlagSet) {
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	build := app.DescribeBuild(s.stop)
	if asJSON {
		return printJSON(out, build, false)
	}
	fmt.Fprintf(out, "%s\n%-10s %s %s\n", build.Version, "built", build.Go, build.Platform)
	if build.Fault != "" {
		_, err = fmt.Fprintf(out, "%-10s %s\n", "sandbox", build.Fault)
		return err
	}
	var standing []string
	for _, name := range build.Order {
		if why, missing := strings.CutPrefix(build.Walls[name], "missing: "); missing {
			fmt.Fprintf(out, "%-10s %s: %s\n", "missing", name, why)
			continue
		}
		standing = append(standing, name)
	}
	if len(standing) == 0 {
		standing = []string{"none stands: code from the ledger is kept by its interpreter alone"}
	}
	_, err = fmt.Fprintf(out, "%-10s %s\n", "walls", strings.Join(standing, " "))
	return err
}
