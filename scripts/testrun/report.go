package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Output     string
}

// skip is one skipped test.
type skip struct{ pkg, test, reason string }

// report turns events back into what `go test` prints without -v.
type report struct {
	out            io.Writer
	tests          map[string]*strings.Builder // package and test to what it has printed
	passed, failed int
	skips          []skip
	passes         []pass    // those with a name
	started        time.Time // the last of them
}

func newReport(out io.Writer) *report { return &report{out: out, tests: map[string]*strings.Builder{}} }

func (r *report) read(stream io.Reader) error {
	lines := bufio.NewReader(stream)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.take(e)
			} else {
				fmt.Fprintf(r.out, "%s", line) // not of test2json: the toolchain's own words
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what go test says: %w", err)
		}
	}
}

func (r *report) take(e event) {
	key := e.Package + "\x00" + e.Test
	switch {
	case e.Action == "build-output":
		fmt.Fprint(r.out, e.Output)
	case e.Action == "output" && e.Test == "":
		if strings.HasPrefix(e.Output, "FAIL\t") {
			r.flush(e.Package)
		}
		// PASS is what only -v and -json say beside the line with ok.
		if e.Output != "PASS\n" {
			fmt.Fprint(r.out, e.Output)
		}
	case e.Action == "output":
		if r.tests[key] == nil {
			r.tests[key] = &strings.Builder{}
		}
		r.tests[key].WriteString(e.Output)
	case e.Test == "":
	case e.Action == "pass":
		r.passed++
		delete(r.tests, key)
	case e.Action == "skip":
		r.skips = append(r.skips, skip{e.Package, e.Test, reason(r.text(key))})
	case e.Action == "fail":
		r.failed++
		fmt.Fprint(r.out, withoutProgress(r.text(key)))
	}
}

// flush prints what tests said that never came to their end, because their binary did not survive.
func (r *report) flush(pkg string) {
	for _, key := range slices.Sorted(maps.Keys(r.tests)) {
		if strings.HasPrefix(key, pkg+"\x00") {
			fmt.Fprint(r.out, withoutProgress(r.text(key)))
		}
	}
}

func (r *report) text(key string) string {
	text := r.tests[key]
	delete(r.tests, key)
	if text == nil {
		return ""
	}
	return text.String()
}

// withoutProgress drops the lines that only -v prints: === RUN, PAUSE, CONT, NAME.
func withoutProgress(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "=== ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// reason is what the test said last: "    find_test.go:131: fetching packages: needs …".
func reason(text string) string {
	var said string
	for line := range strings.Lines(withoutProgress(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--- SKIP") {
			said = line
		}
	}
	if _, rest, found := strings.Cut(said, ": "); found && strings.Contains(said, "_test.go:") {
		said = rest
	}
	if said == "" {
		said = "no reason given"
	}
	return said
}

// printEnd prints what `go test` prints last, then the counts and the skipped tests.
func (r *report) printEnd(code int) {
	if code != 0 {
		fmt.Fprintln(r.out, "FAIL")
	}
	fmt.Fprintf(r.out, "\n%d tests passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skips))
	for _, p := range r.passes {
		fmt.Fprintf(r.out, "    %s: %d passed, %d failed, %d skipped in %d s\n", p.name, p.passed, p.failed,
			p.skipped, int(p.took.Seconds()))
	}
	slices.SortFunc(r.skips, func(a, b skip) int { return strings.Compare(a.pkg+" "+a.test, b.pkg+" "+b.test) })
	for _, s := range r.skips {
		name := strings.TrimSpace(strings.TrimPrefix(s.pkg, module) + " " + s.test)
		fmt.Fprintf(r.out, "    skipped %s: %s\n", name, s.reason)
	}
}
