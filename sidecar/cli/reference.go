package cli

import (
	"bytes"
	"fmt"
	"strings"
)

// page is a command as the reference and the shells know it: its words after logline, and its help.
type page struct {
	words, summary, help string
	subs                 []string // the words that may come next
}

// pages lists every command and every subcommand that has a help of its own, in the order of logline help.
func pages() []page {
	var list []page
	for _, c := range commands() {
		own := page{words: c.name, summary: c.summary, help: c.help}
		var below []page
		for _, sub := range subcommands(c.name) {
			own.subs = append(own.subs, sub.name)
			below = append(below, page{words: c.name + " " + sub.name, summary: sub.summary, help: sub.help})
		}
		if own.subs == nil {
			own.subs = inlineCommands()[c.name]
		}
		list = append(append(list, own), below...)
	}
	return list
}

// inlineCommands are second words that the help of their command describes.
func inlineCommands() map[string][]string {
	return map[string][]string{
		"requests":   {"list", "show", "redrive", "cancel"},
		"schedule":   {"check"},
		"completion": {"bash", "zsh", "fish"},
	}
}

const referenceHead = "# Commands\n\n" +
	"Generated from the commands' own help by `go run ./scripts/gen`; do not edit. `logline help COMMAND`\n" +
	"prints the same.\n\n" +
	"Exit codes of every command: 0 done, 1 a check failed or it could not be done, 2 wrong use. With\n" +
	"`--json` one prints JSON and nothing else on standard output; what is told beside it goes to standard\n" +
	"error. Color is for terminals only, and never with `NO_COLOR`. Who a command acts as:\n" +
	"[functions.md](../functions.md).\n\n"

// Reference is docs/reference/cli.md: the help of every command.
func Reference() []byte {
	var b bytes.Buffer
	b.WriteString(referenceHead)
	for _, p := range pages() {
		if !strings.Contains(p.words, " ") {
			fmt.Fprintf(&b, "- [%s](#logline-%s): %s\n", p.words, p.words, p.summary)
		}
	}
	for _, p := range pages() {
		level := "##"
		if strings.Contains(p.words, " ") {
			level = "###"
		}
		fmt.Fprintf(&b, "\n%s logline %s\n\n```text\n%s```\n", level, p.words, p.help)
	}
	return b.Bytes()
}
