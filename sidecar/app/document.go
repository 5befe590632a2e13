package app

import (
	"slices"

	"github.com/loglineos/loglineos/sidecar/span"
)

// stamps are the columns in which any two versions differ, or that follow from the others.
var stamps = []string{"seq", "at", "who", "xact", "accepted_at", "prev_hash", "curr_hash", "signature",
	"public_key", "sig_alg", "sig_key_id"}

// ChangedColumns names the columns in which two versions of a span differ, in the order of the table, but for
// those that say when, by whom and under which hash a version was appended.
func ChangedColumns(before, now *span.Span) []string {
	var changed []string
	for _, column := range span.Columns {
		if slices.Contains(stamps, column.Name) {
			continue
		}
		was, wasStated := column.Text(before)
		is, isStated := column.Text(now)
		if wasStated != isStated || was != is {
			changed = append(changed, column.Name)
		}
	}
	return changed
}
