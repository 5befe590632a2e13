package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// placeholder is where ledger_private.fingerprints gets its rows (sql/src/85_guard_check.sql).
const placeholder = "@fingerprints@"

var (
	signature = regexp.MustCompile(`^([a-z_]+\.[a-z0-9_]+)\(`)
	quoted    = regexp.MustCompile(`(?m)^as (\$[a-z_]*\$)`)
)

// fingerprint fills the placeholder with a row ('schema.name', 'SHA-256 of the body') for each function of
// a form whose body stands between dollar quotes, as Postgres keeps it (prosrc). The function that holds
// the placeholder can not vouch for itself and has no row.
func fingerprint(form string) (string, error) {
	if strings.Count(form, placeholder) != 1 {
		return "", fmt.Errorf("fill fingerprints: want %s exactly once", placeholder)
	}
	var rows []string
	for i, text := range strings.Split(form, "\ncreate or replace function ") {
		if i == 0 {
			continue
		}
		name := signature.FindStringSubmatch(text)
		if name == nil {
			return "", fmt.Errorf("fill fingerprints: %.60q begins with no schema.name(", text)
		}
		quote := quoted.FindStringSubmatchIndex(text)
		if quote == nil {
			if strings.Contains(text, "\nbegin atomic\n") || strings.Contains(text, "\nreturn ") {
				continue // in the catalog as a tree: standing_walls shows it
			}
			return "", fmt.Errorf("fill fingerprints: %s has no line that begins with as $$", name[1])
		}
		body, _, closed := strings.Cut(text[quote[1]:], text[quote[2]:quote[3]])
		if !closed {
			return "", fmt.Errorf("fill fingerprints: the body of %s does not end", name[1])
		}
		if strings.Contains(body, placeholder) {
			continue
		}
		sum := sha256.Sum256([]byte(body))
		rows = append(rows, fmt.Sprintf("        ('%s', '%s')", name[1], hex.EncodeToString(sum[:])))
	}
	if len(rows) == 0 {
		return "", errors.New("fill fingerprints: there is no function")
	}
	slices.Sort(rows)
	return strings.Replace(form, placeholder, strings.Join(rows, ",\n"), 1), nil
}
