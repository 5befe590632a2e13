package e2e_test

import (
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/pages"
	"github.com/loglineos/loglineos/tests/pgtest"
	"github.com/loglineos/loglineos/tests/program"
)

// The first pages that a newcomer reads do what they print: README.md and docs/quickstart.md, block by block,
// in one psql session as they say, the kill -9 included. What they print must be there line by line, with
// nothing beside it; ids, names of machines and places of "…" may differ.
func TestTheFirstPagesDoWhatTheyPrint(t *testing.T) {
	t.Parallel()
	client := program.Find(t, "psql")
	r := &reader{t: t, dir: pgtest.Dir(t)}
	r.local = up(t, r.dir)
	r.open(client)
	blocks := append(pages.Marked(t, "README.md").All(), pages.Marked(t, "docs/quickstart.md").All()...)
	for _, block := range blocks {
		if block.Language == "sql" {
			r.run(block.Text, block.Shows)
		} else {
			r.kill(block.Text)
		}
	}
}

var (
	sleeps = regexp.MustCompile(`(?m)^select pg_sleep\(.*\n`)
	writes = regexp.MustCompile(`(?m)^(insert|update) `)
	frames = regexp.MustCompile(`^[-+ ]*$|^-\[ RECORD|^\(\d+ rows?\)$|^CONTEXT: |^(PL/pgSQL|SQL) `)
	varies = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]+|sidecar:\w+|\s+|…`)
)

// reader is somebody who pastes the blocks of a page.
type reader struct {
	t   *testing.T
	dir string
	*local
	psql  io.Writer
	said  program.Transcript
	marks int
}

func (r *reader) open(client string) {
	command := exec.CommandContext(r.t.Context(), client, "-qX", r.env["DATABASE_URL"])
	command.Stdout, command.Stderr = &r.said, &r.said
	input, err := command.StdinPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.psql = input
	r.t.Cleanup(func() {
		input.Close()
		_ = command.Wait() // it is killed with the test's context
	})
}

// paste sends a text and returns what psql answers to it.
func (r *reader) paste(text string) string {
	r.t.Helper()
	r.marks++
	before, mark := len(r.said.String()), fmt.Sprintf("mark %d\n", r.marks)
	if _, err := fmt.Fprintf(r.psql, "%s\n\\echo mark %d\n", text, r.marks); err != nil {
		r.t.Fatal(err)
	}
	var answer string
	program.Eventually(r.t, "psql answers", func() (isThere bool) {
		answer, _, isThere = strings.Cut(r.said.String()[before:], mark)
		return isThere
	})
	return answer
}

// run pastes a block. Where the page waits, this waits for what it is waiting for: a run that has begun, or
// what is printed.
func (r *reader) run(block, printed string) {
	r.t.Helper()
	parts := sleeps.Split(block, -1)
	for i, part := range parts {
		isLast := i == len(parts)-1
		switch {
		case isLast && printed != "" && !writes.MatchString(part):
			var fault string
			isThere := program.Within(r.t, patience, func() bool {
				fault = differs(printed, r.paste(part))
				return fault == ""
			})
			if !isThere {
				r.t.Fatalf("%s\n%s", part, fault)
			}
			return
		case i > 0 && !isLast:
			program.Eventually(r.t, "the run begins", func() bool {
				return r.query("select count(*) from ledger.visible_timeline where status = 'running'") > 0
			})
		}
		answer := r.paste(part)
		switch {
		case isLast && printed != "":
			if fault := differs(printed, answer); fault != "" {
				r.t.Fatalf("%s\n%s", part, fault)
			}
		case strings.Contains(answer, "ERROR"):
			r.t.Fatalf("%s\nends with %s", part, answer)
		}
	}
}

// kill does what §6 says in the third terminal.
func (r *reader) kill(block string) {
	r.t.Helper()
	line, rest, _ := strings.Cut(block, "\n")
	if rest != "make up\n" {
		r.t.Fatalf("after the kill the page says %q", rest)
	}
	program.Eventually(r.t, "the run begins", func() bool {
		return r.query("select count(*) from ledger.visible_timeline where status = 'running'") > 0
	})
	line = strings.ReplaceAll(line, ".logline/", r.dir+"/")
	if said, err := exec.CommandContext(r.t.Context(), "bash", "-c", line).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v: %s", line, err, said)
	}
	r.Wait()
	r.local = up(r.t, r.dir)
	if !strings.Contains(r.Out.String(), "adopted") {
		r.t.Errorf("up does not say that it adopted Postgres:\n%s", r.Out.String())
	}
}

// differs says in which line an answer is not what is printed; in what order does not matter.
func differs(printed, answer string) string {
	want, got := lines(printed), lines(answer)
	for _, line := range want {
		var form strings.Builder
		from := 0
		for _, at := range varies.FindAllStringIndex(line, -1) {
			form.WriteString(regexp.QuoteMeta(line[from:at[0]]))
			switch piece := line[at[0]:at[1]]; {
			case strings.TrimSpace(piece) == "":
				form.WriteString(`\s+`)
			case piece == "…":
				form.WriteString(`.*`)
			default:
				form.WriteString(`\S+`)
			}
			from = at[1]
		}
		matching := regexp.MustCompile("^" + form.String() + regexp.QuoteMeta(line[from:]) + "$")
		isThere := false
		for _, candidate := range got {
			isThere = isThere || matching.MatchString(candidate)
		}
		if !isThere {
			return fmt.Sprintf("does not print\n%s\nbut\n%s", line, answer)
		}
	}
	if len(want) != len(got) {
		return fmt.Sprintf("prints %d lines, want %d:\n%s", len(got), len(want), answer)
	}
	return ""
}

// lines are those that say something.
func lines(text string) (found []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); !frames.MatchString(line) {
			found = append(found, strings.Trim(line, "| "))
		}
	}
	return found
}
