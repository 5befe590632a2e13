package app

import (
	_ "embed" // the page
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed compliance.html
var compliancePage string

// WriteHTML writes the report as one page that needs nothing else, for an auditor to keep or to print. All
// that it says of the ledger is escaped.
func (c *Compliance) WriteHTML(w io.Writer) error {
	page, err := template.New("compliance").Funcs(template.FuncMap{
		"time":  func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"tally": Tally,
	}).Parse(compliancePage)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	if err := page.Execute(w, c); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// Tally counts evidence by its level: 12 ok, 1 fault.
func Tally(evidence []Evidence) string {
	counts := map[Level]int{}
	for _, e := range evidence {
		counts[e.Level]++
	}
	var parts []string
	for _, level := range []Level{Fine, Warning, Fault, Skipped} {
		if counts[level] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[level], level))
		}
	}
	return strings.Join(parts, ", ")
}
