// Command benchtable writes the tables of docs/benchmarks.md from tests/bench/results: the text between
// "<!-- NAME -->" and "<!-- /NAME -->" for each NAME.jsonl. Run it from the repository's root; make bench
// does. A benchmark that has no results yet says so.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	page    = "docs/benchmarks.md"
	results = "tests/bench/results"
)

// machine is the first line of a file.
type machine struct {
	At       string `json:"at"`
	Commit   string `json:"commit"`
	Postgres string `json:"postgres"`
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
}

// figure is each other line (tests/bench/results_test.go).
type figure struct {
	Case     string             `json:"case"`
	System   string             `json:"system"`
	Values   map[string]float64 `json:"values"`
	Settings string             `json:"settings"`
	Load     float64            `json:"load"`
}

// row is one case of one system: every value of every round.
type row struct {
	of     figure
	values map[string][]float64
}

func main() {
	if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

func write() error {
	text, err := os.ReadFile(page)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	marks := regexp.MustCompile(`(?s)<!-- ([a-z]+) -->\n.*?<!-- /[a-z]+ -->`)
	var faults []error
	text = marks.ReplaceAllFunc(text, func(found []byte) []byte {
		name := string(marks.FindSubmatch(found)[1])
		table, err := tableOf(name)
		if err != nil {
			faults = append(faults, err)
		}
		return fmt.Appendf(nil, "<!-- %s -->\n%s<!-- /%[1]s -->", name, table)
	})
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return os.WriteFile(page, text, 0o644)
}

// tableOf is the table of one file, with where and when it was measured.
func tableOf(name string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(results, name+".jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return "\nNot measured yet.\n\n", nil
	}
	if err != nil {
		return "", fmt.Errorf("read results: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	var m machine
	var rows []*row
	for first := true; lines.Scan(); first = false {
		if first {
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				return "", fmt.Errorf("decode results of %s: %w", name, err)
			}
			continue
		}
		var f figure
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return "", fmt.Errorf("decode results of %s: %w", name, err)
		}
		rows = put(rows, f)
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read results of %s: %w", name, err)
	}
	return m.line(rows) + render(rows), nil
}

func (m machine) line(rows []*row) string {
	low, high := 0.0, 0.0
	for i, r := range rows {
		load := slices.Max(r.values["load"])
		if least := slices.Min(r.values["load"]); i == 0 || least < low {
			low = least
		}
		high = max(high, load)
	}
	return fmt.Sprintf("\n%s, commit %s, Postgres %s, %d cores of %s, load average %.1f to %.1f.\n\n", m.At,
		m.Commit, m.Postgres, m.Cores, m.CPU, low, high)
}

func put(rows []*row, f figure) []*row {
	place := slices.IndexFunc(rows, func(r *row) bool { return r.of.Case == f.Case && r.of.System == f.System })
	if place < 0 {
		place = len(rows)
		rows = append(rows, &row{f, map[string][]float64{}})
	}
	for name, value := range f.Values {
		rows[place].values[name] = append(rows[place].values[name], value)
	}
	rows[place].values["load"] = append(rows[place].values["load"], f.Load)
	return rows
}

// render shows medians, a table for each kind of case: what stands before the comma.
func render(rows []*row) string {
	var text strings.Builder
	for len(rows) > 0 {
		kind := kindOf(rows[0])
		n := slices.IndexFunc(rows, func(r *row) bool { return kindOf(r) != kind })
		if n < 0 {
			n = len(rows)
		}
		renderKind(&text, rows[:n])
		rows = rows[n:]
	}
	return text.String()
}

func kindOf(r *row) string {
	kind, _, _ := strings.Cut(r.of.Case, ",")
	return kind
}

func renderKind(text *strings.Builder, rows []*row) {
	all := map[string]bool{}
	for _, r := range rows {
		for name := range r.of.Values {
			all[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(all))
	fmt.Fprintf(text, "| case | system | %s | rounds |\n|%s\n", strings.Join(names, " | "),
		strings.Repeat("---|", len(names)+3))
	for _, r := range rows {
		fmt.Fprintf(text, "| %s | %s |", r.of.Case, r.of.System)
		for _, name := range names {
			value := ""
			if values := r.values[name]; len(values) > 0 {
				value = " " + number(median(values))
			}
			fmt.Fprintf(text, "%s |", value)
		}
		fmt.Fprintf(text, " %d |\n", len(r.values["load"]))
	}
	text.WriteString("\n")
}

func median(values []float64) float64 {
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

func number(x float64) string {
	if x >= 100 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'g', 3, 64)
}
