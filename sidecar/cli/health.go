package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
)

const healthHelp = `Usage: logline health [--ready] [--listen ADDR] [--json]

Asks the sidecar of this machine whether it lives: the health check of a container that has neither a shell
nor curl. A sidecar that stands by lives and is not ready, so ask for --ready only where one sidecar is to be
the leader.

    --ready         whether it is ready for work (/readyz); without, whether it lives (/healthz)
    --listen ADDR   where it listens; default: LOGLINE_LISTEN, else 127.0.0.1:8787
    --json          one object: url, well, phase, reason, answer

Exit codes: 0 it is well, 1 it is not, 2 wrong use.

Examples:

    logline health
    logline health --ready --json | jq -r .reason
`

// errUnwell is what a health check ends with; what it printed says why.
var errUnwell = errors.New("it is not well")

func runHealth(s signals, args []string, out, _ io.Writer) error {
	var ready, asJSON bool
	address := config.ListenAddress()
	err := parse("health", healthHelp, args, out, func(flags *flag.FlagSet) {
		flags.BoolVar(&ready, "ready", false, "")
		flags.BoolVar(&asJSON, "json", false, "")
		flags.StringVar(&address, "listen", address, "")
	})
	if err != nil {
		return err
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "0" {
		return &usageError{fmt.Sprintf("%q: want host:port, for example 127.0.0.1:8787", address)}
	}
	h := app.AskHealth(s.stop, address, ready)
	switch {
	case asJSON:
		err = printJSON(out, h, false)
	case h.Well && ready:
		_, err = fmt.Fprintf(out, "ready      %s\n", h.Phase)
	case h.Well:
		_, err = fmt.Fprintln(out, "alive")
	default:
		_, err = fmt.Fprintf(out, "unwell     %s\n", plainText(h.Reason, causeWidth))
	}
	if err == nil && !h.Well {
		err = errUnwell
	}
	return err
}
