package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/span"
)

const replayHelp = `Usage: logline replay EXECUTION_ID [--code FILE] [--json] [--database URL]

Runs the function of an execution again: the same version (its hash is verified), with the recorded
input, seed, time and limits. Its host calls are answered from the record; nothing is written and nothing is
called. It says "same output" and exits with 0; or what differs, or why the run cannot be repeated, and
exits with 1.

    --code FILE      run this code in place of the function's: what would the new version have done?
                     A file that ends in .ts is TypeScript
    --json           the whole report: {verdict, reason, differences, output, error, logs, calls, …}
    --database URL   default: DATABASE_URL; any login that may read the execution

What cannot be repeated: a run that ended with timeout, memory or crash (they depend on the machine), one
with more than 64 KiB of answers to its host calls, and one whose record or function is not what was hashed.

Exit codes: 0 the same, 1 it differs or could not be repeated, 2 wrong use.

Examples:

    logline replay 0198c0de-0000-8000-8000-000000000001
    logline replay 0198c0de-0000-8000-8000-000000000001 --code fixed.js
    logline replay 0198c0de-0000-8000-8000-000000000001 --json | jq .differences
`

// errReplay ends a replay that did not give the same.
var errReplay = errors.New("the run is not repeated as it is recorded")

func runReplay(s signals, args []string, out, _ io.Writer) error {
	var file, url string
	var asJSON bool
	id, err := parseOne("replay", replayHelp, args, out, func(flags *flag.FlagSet) {
		flags.StringVar(&file, "code", "", "")
		flags.StringVar(&url, "database", "", "")
		flags.BoolVar(&asJSON, "json", false, "")
	})
	if err != nil {
		return err
	}
	execution, err := span.ParseID(id)
	if err != nil {
		return &usageError{fmt.Sprintf("%q is no id of an execution: it is a UUID", id)}
	}
	var other *app.ReplayCode
	if file != "" {
		source, err := os.ReadFile(file)
		if err != nil {
			return &usageError{fmt.Sprintf("read --code: %s", err)}
		}
		other = &app.ReplayCode{Source: string(source), Language: "javascript"}
		if strings.HasSuffix(file, ".ts") {
			other.Language = "typescript"
		}
	}
	given := url
	if url, err = databaseURL(given); err != nil {
		return err
	}
	report, err := app.Replay(s.stop, url, execution, other)
	if err != nil {
		return namedAsGiven(err, given)
	}
	if asJSON {
		err = printJSON(out, report, false)
	} else {
		_, err = io.WriteString(out, plainLines(string(replayText(report))))
	}
	if err == nil && report.Verdict != "same" {
		return errReplay
	}
	return err
}

// argumentOf is how the usage of a command names its argument, such as NAME|ID.
func argumentOf(name, help string) string {
	_, rest, _ := strings.Cut(help, "Usage: logline "+name+" ")
	word, _, _ := strings.Cut(rest, " ")
	word, _, _ = strings.Cut(word, "\n")
	return word
}

// parseOne is parse for a command of one argument.
func parseOne(name, help string, args []string, out io.Writer, define func(*flag.FlagSet)) (string, error) {
	words, err := parseWords(name, help, args, out, define)
	if err == nil && len(words) != 1 {
		err = wrongUse(name, "%s takes one argument, %s", name, argumentOf(name, help))
	}
	if err != nil {
		return "", err
	}
	return words[0], nil
}

const shownMost = 2000 // bytes of one side of a difference

// replayText is the report for people.
func replayText(r *app.ReplayReport) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "execution %s", r.Execution)
	if r.Function != nil {
		fmt.Fprintf(&b, " of function %s version %d", r.Function.ID, r.Function.Seq)
	}
	if r.StartedAt != nil {
		fmt.Fprintf(&b, ", started %s", r.StartedAt)
	}
	b.WriteByte('\n')
	switch r.Verdict {
	case "same":
		fmt.Fprintf(&b, "same output (%d host calls, %d log lines)\n", r.Calls, len(r.Logs))
	case "different":
		fmt.Fprintf(&b, "different in %d places (- recorded, + now)\n", len(r.Differences))
	default:
		fmt.Fprintf(&b, "could not be repeated: %s\n", r.Reason)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(&b, "  %s\n", d.What)
		for _, side := range []struct {
			sign  string
			value json.RawMessage
		}{{"-", d.Recorded}, {"+", d.Replayed}} {
			if side.value != nil {
				fmt.Fprintf(&b, "    %s %s\n", side.sign, shorten(string(side.value)))
			}
		}
	}
	return b.Bytes()
}

func shorten(text string) string {
	if len(text) <= shownMost {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes; --json shows all)", strings.ToValidUTF8(text[:shownMost], ""), len(text))
}
