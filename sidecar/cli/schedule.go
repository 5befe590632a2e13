package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
)

const scheduleHelp = `Usage: logline schedule check "CRON" [--tz ZONE] [-n COUNT] [--after TIME] [--json]

Prints when a function with this metadata.schedule ticks next: in its zone, and in UTC. It asks no database. A
malformed expression or zone ends with exit code 2 and the cause.

    --tz ZONE      a name of the tz database, such as America/Sao_Paulo; default: UTC
    -n COUNT       how many ticks, 1 to 1000; default: 5
    --after TIME   from when on, in RFC 3339; default: now
    --json         {cron, tz, ticks: [{local, utc}]}

CRON has 5 fields: minute, hour, day of month, month, day of week (0 is Sunday); or 6, with the seconds before
them; or is one of @hourly @daily @weekly @monthly @yearly. Daylight saving: see docs/functions.md.

Exit codes: 0 done, 1 it failed, 2 wrong use, or no schedule.

Examples:

    logline schedule check "*/5 * * * *"
    logline schedule check "30 2 * * *" --tz America/New_York --after 2026-03-07T12:00:00Z
    logline schedule check "0 9 * * mon-fri" --tz America/Sao_Paulo -n 10 --json
`

const scheduleTicksMax = 1000

func runSchedule(_ signals, args []string, out, _ io.Writer) error {
	if len(args) > 0 && args[0] == "check" {
		args = args[1:]
	} else if len(args) > 0 && args[0] != "-h" && args[0] != "--help" && args[0] != "-help" {
		return &usageError{fmt.Sprintf("schedule has no command %q: want check; see `logline help schedule`",
			args[0])}
	}
	zone, after, n, asJSON := "", "", 0, false
	expression, err := parseOne("schedule", scheduleHelp, args, out, func(flags *flag.FlagSet) {
		flags.StringVar(&zone, "tz", "", "")
		flags.StringVar(&after, "after", "", "")
		flags.IntVar(&n, "n", 5, "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	var wrong *usageError
	if errors.As(err, &wrong) && strings.Contains(wrong.text, "argument") {
		return &usageError{wrong.text + "; quote the expression"}
	}
	if err != nil {
		return err
	}
	from := time.Now()
	if after != "" {
		if from, err = time.Parse(time.RFC3339, after); err != nil {
			return &usageError{fmt.Sprintf("--after %q: want a time such as 2026-03-08T07:00:00Z", after)}
		}
	}
	if n < 1 || n > scheduleTicksMax {
		return &usageError{fmt.Sprintf("-n %d: want 1 to %d", n, scheduleTicksMax)}
	}
	ticks, err := app.NextTicks(expression, zone, from, n)
	if err != nil {
		return &usageError{err.Error()}
	}
	if asJSON {
		return printTicks(out, expression, zone, ticks)
	}
	for _, at := range ticks {
		fmt.Fprintf(out, "%s  %s\n", at.Format("Mon 2006-01-02 15:04:05 -07:00"), at.UTC().Format(time.RFC3339))
	}
	return nil
}

func printTicks(out io.Writer, expression, zone string, ticks []time.Time) error {
	type tick struct {
		Local string `json:"local"`
		UTC   string `json:"utc"`
	}
	if zone == "" {
		zone = "UTC"
	}
	list := make([]tick, len(ticks))
	for i, at := range ticks {
		list[i] = tick{at.Format(time.RFC3339), at.UTC().Format(time.RFC3339)}
	}
	return printJSON(out, map[string]any{"cron": expression, "tz": zone, "ticks": list}, false)
}
