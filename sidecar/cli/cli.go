// Package cli is the commands of logline and their flags; what they do is in package app.
//
// Exit codes: 0 done, 1 it failed, 2 wrong use.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/loglineos/loglineos/sidecar/app"
	"github.com/loglineos/loglineos/sidecar/config"
)

// command is one word after logline.
type command struct {
	name, summary, help string
	run                 func(s signals, args []string, out, errOut io.Writer) error
}

// signals are the two wishes of whoever started the process: stop ends at the first SIGINT or SIGTERM,
// now at the second, when nothing is to be waited for.
type signals struct{ stop, now context.Context }

func commands() []command {
	return []command{
		{"up", "start everything on this machine: Postgres, ledger, sidecar, an example", upHelp, runUp},
		{"serve", "run the sidecar beside the Postgres of DATABASE_URL", serveHelp, runServe},
		{"migrate", "bring the database of DATABASE_URL to this version's schema", migrateHelp, runMigrate},
		{"login", "make the sidecar's login, or change its password", loginHelp, runLogin},
		{"bootstrap", "publish kernels, policies and manifest into the ledger", bootstrapHelp, runBootstrap},
		{"manifest", "print the manifest, or append its next version", manifestHelp, runManifest},
		{"keys", "make, publish, list, rotate and revoke the keys that sign spans", keysHelp, runKeys},
		{"schedule", "print when a cron expression ticks next", scheduleHelp, runSchedule},
		{"function", "write, try, publish and call functions, and read their logs", functionHelp, runFunction},
		{"policy", "show past spans to a policy before it is published", policyHelp, runPolicy},
		{"span", "append a span, print one, and its versions", spanHelp, runSpan},
		{"timeline", "print what happens in the ledger, and follow it", timelineHelp, runTimeline},
		{"requests", "list, show, redrive and cancel requests", requestsHelp, runRequests},
		{"replay", "run an execution again from its record", replayHelp, runReplay},
		{"verify", "look whether the ledger is whole, and try its walls", verifyHelp, runVerify},
		{"e2e", "run the whole flow against a running system, and put it away", e2eHelp, runE2E},
		{"compliance", "test the seven principles, with the evidence, for an auditor", complianceHelp,
			runCompliance},
		{"doctor", "say what keeps a sidecar from working, and the mend", doctorHelp, runDoctor},
		{"health", "ask the running sidecar whether it lives, or is ready", healthHelp, runHealth},
		{"completion", "print a script by which a shell completes commands", completionHelp, runCompletion},
		{"version", "print the version, and the walls of this machine", versionHelp, runVersion},
	}
}

// subcommand is the second word of a command that has several.
type subcommand struct {
	name, summary, help string
	run                 func(s signals, args []string, out, errOut io.Writer) error
}

// subcommands lists those of a command; nil where it has none, or one help for all.
func subcommands(name string) []subcommand {
	switch name {
	case "keys":
		return keysSubcommands()
	case "function":
		return functionCommands()
	case "policy":
		return policyCommands()
	case "span":
		return spanCommands()
	}
	return nil
}

// runSub runs the subcommand that args name first. Without one it prints the help of all.
func runSub(name, help string, s signals, args []string, out, errOut io.Writer) error {
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		_, err := fmt.Fprint(out, help)
		return err
	}
	for _, sub := range subcommands(name) {
		if sub.name == args[0] {
			return sub.run(s, args[1:], out, errOut)
		}
	}
	return wrongUse(name, "there is no command %q%s", name+" "+args[0], didYouMean(name, args[0]))
}

// didYouMean asks for the word that may come after name ("": after logline), where text looks like one.
func didYouMean(name, text string) string {
	var known []string
	for _, p := range pages() {
		switch {
		case name == p.words:
			known = append(known, p.subs...)
		case name == "" && !strings.Contains(p.words, " "):
			known = append(known, p.words)
		}
	}
	if len(text) > 40 { // nobody mistypes so much
		return ""
	}
	if word := app.Nearest(text, known); word != "" {
		return ": did you mean `logline " + strings.TrimSpace(name+" "+word) + "`?"
	}
	return ""
}

// errSaid ends a command with exit code 1 whose output has said what failed.
var errSaid = errors.New("it failed")

// usageError is a wrong use: exit code 2.
type usageError struct{ text string }

// Error returns the text.
func (e *usageError) Error() string { return e.text }

// Main runs one command and returns the exit code: that of a failure, too, where its output was not kept.
func Main(args []string, out, errOut io.Writer) int {
	to := &output{Writer: out}
	code := dispatch(args, to, errOut)
	if fault := to.fault.Load(); code == 0 && fault != nil {
		complain(errOut, fmt.Errorf("print the result: %w", *fault))
		return 1
	}
	return code
}

func dispatch(args []string, out, errOut io.Writer) int {
	if len(args) == 0 || args[0] == "help" && len(args) == 1 || args[0] == "-h" || args[0] == "--help" {
		usage(out)
		return 0
	}
	if args[0] == "--version" {
		args[0] = "version"
	}
	if args[0] == "help" {
		args = append(slices.Clone(args[1:]), "--help")
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		return exitCode(c.run(listen(), args[1:], out, errOut), errOut)
	}
	fmt.Fprintf(errOut, "logline: there is no command %q%s; `logline help` lists them\n", args[0],
		didYouMean("", args[0]))
	return 2
}

func exitCode(err error, errOut io.Writer) int {
	var wrong *usageError
	var running *app.RunningError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errSaid):
		return 1
	case errors.As(err, &wrong), errors.As(err, &running):
		complain(errOut, err)
		return 2
	}
	complain(errOut, err)
	return 1
}

// complain says what is wrong. What it quotes may be a stranger's.
func complain(errOut io.Writer, err error) {
	fmt.Fprintln(errOut, "logline:", plainLines(err.Error()))
}

func usage(out io.Writer) {
	fmt.Fprint(out,
		"logline runs LogLineOS: a ledger in Postgres, and the sidecar that runs its functions.\n\nUsage:\n\n")
	for _, c := range commands() {
		fmt.Fprintf(out, "    logline %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprint(out, "\n`logline help COMMAND` says more. Start with `logline up`.\n")
}

// impatient is how long after a signal the next one counts: some senders (timeout, make) send the same
// one twice at once.
const impatient = time.Second

// listen takes SIGINT and SIGTERM. The third one ends the process at once. The goroutine lives as long as
// the process.
func listen() signals {
	stop, cancelStop := context.WithCancel(context.Background())
	now, cancelNow := context.WithCancel(context.Background())
	received := make(chan os.Signal, 1)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	go func() {
		wishes := []func(){cancelStop, cancelNow, func() { os.Exit(130) }}
		var last time.Time
		for len(wishes) > 0 {
			<-received
			if now := time.Now(); now.Sub(last) > impatient {
				last = now
				wishes[0]()
				wishes = wishes[1:]
			}
		}
	}()
	return signals{stop, now}
}

// parse reads flags. help is the whole text of --help.
func parse(name, help string, args []string, out io.Writer, define func(*flag.FlagSet)) error {
	words, err := parseWords(name, help, args, out, define)
	if err == nil && len(words) > 0 {
		return wrongUse(name, "%s takes no argument %q", name, words[0])
	}
	return err
}

// parseWords is parse for a command with arguments, which may stand before, between and behind the flags.
func parseWords(name, help string, args []string, out io.Writer, define func(*flag.FlagSet)) (
	[]string, error) {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	if define != nil {
		define(flags)
	}
	var words []string
	for {
		err := flags.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprint(out, help)
			return nil, flag.ErrHelp
		case err != nil:
			return nil, wrongUse(name, "%s", strings.Replace(err.Error(), ": parse error",
				": want a time such as 90s, 15m or 24h", 1))
		case flags.NArg() == 0:
			return words, nil
		}
		words, args = append(words, flags.Arg(0)), flags.Args()[1:]
	}
}

// since defines --since, which takes days, too: an operator looks back over them.
func since(flags *flag.FlagSet, target *time.Duration) {
	flags.Func("since", "", func(text string) error {
		if days, isDays := strings.CutSuffix(text, "d"); isDays {
			n, err := strconv.ParseUint(days, 10, 16)
			*target = time.Duration(n) * 24 * time.Hour
			if err == nil {
				return nil
			}
		}
		duration, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("want a time such as 90s, 15m, 24h or 7d")
		}
		*target = duration
		return nil
	})
}

// stated defines a flag that is no flag without a value: `--tenant "$TENANT"` of a variable that is not set
// would pass for one that was left out, and the default, of another, be taken.
func stated(flags *flag.FlagSet, target *string, name string) {
	flags.Func(name, "", func(text string) error {
		if text == "" {
			return errors.New("it is empty: give a value, or leave the flag out")
		}
		*target = text
		return nil
	})
}

// wrongUse is a usageError that says where the help is.
func wrongUse(name, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...) + "; see `logline help " + name + "`"}
}

func newLogger(c *config.Config, errOut io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level()}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(errOut, options))
	}
	return slog.New(slog.NewTextHandler(errOut, options))
}
