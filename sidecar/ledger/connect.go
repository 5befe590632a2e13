package ledger

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// connectError is a connection that could not be made, in a line of its own.
type connectError struct {
	text  string
	cause error
}

// Error returns the line.
func (e *connectError) Error() string { return e.text }

// Unwrap returns what the driver says.
func (e *connectError) Unwrap() error { return e.cause }

// connectFault says why a connection could not be made, and which command looks further.
func connectFault(err error) error {
	text := "connect to DATABASE_URL: " + ConnectText(err.Error())
	var refused *pgconn.ConnectError
	if errors.As(err, &refused) && !errors.Is(err, context.Canceled) {
		text += "; `logline doctor` looks for the cause"
	}
	return &connectError{text, err}
}

var (
	dialed  = regexp.MustCompile(`: dial error: dial tcp \S+: (connect: )?`)
	address = regexp.MustCompile(`(\S+):(\d+) \((\S+)\)`)
)

// ConnectText is what the driver says of a connection, which is a line for each attempt and the address three
// times in each, in one line: each attempt that differs, and its address once.
func ConnectText(text string) string {
	var said []string
	for line := range strings.SplitSeq(text, "\n") {
		line = dialed.ReplaceAllString(strings.TrimSpace(line), ": ")
		line = address.ReplaceAllStringFunc(line, func(found string) string {
			part := address.FindStringSubmatch(found)
			if strings.Trim(part[1], "[]") == part[3] {
				return part[1] + ":" + part[2]
			}
			return found
		})
		isSaid := func(other string) bool { return strings.HasSuffix(other, line) }
		if line != "" && !slices.ContainsFunc(said, isSaid) {
			said = append(said, line)
		}
	}
	return strings.ReplaceAll(strings.Join(said, "; "), ":; ", ": ")
}
