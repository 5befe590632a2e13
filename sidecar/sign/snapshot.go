package sign

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is a pg_snapshot: which transactions of a cluster were over at a moment
// (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT).
type Snapshot struct {
	least, next uint64 // below least all are over; from next on none had begun
	running     []uint64
}

// ParseSnapshot reads Postgres' text form xmin:xmax:xip,….
func ParseSnapshot(text string) (Snapshot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return Snapshot{}, fmt.Errorf("parse snapshot %.60q: want the form 10:20:11,12", text)
	}
	var s Snapshot
	var err error
	if s.least, err = parseXact(parts[0]); err != nil {
		return Snapshot{}, err
	}
	if s.next, err = parseXact(parts[1]); err != nil {
		return Snapshot{}, err
	}
	if s.least > s.next {
		return Snapshot{}, fmt.Errorf("parse snapshot %.60q: it ends before it begins", text)
	}
	if parts[2] == "" {
		return s, nil
	}
	for word := range strings.SplitSeq(parts[2], ",") {
		xact, err := parseXact(word)
		if err != nil {
			return Snapshot{}, err
		}
		s.running = append(s.running, xact)
	}
	slices.Sort(s.running)
	return s, nil
}

// Sees reports whether transaction xact was over: pg_visible_in_snapshot.
func (s Snapshot) Sees(xact uint64) bool {
	if xact < s.least {
		return true
	}
	_, isRunning := slices.BinarySearch(s.running, xact)
	return xact < s.next && !isRunning
}

func parseXact(text string) (uint64, error) {
	xact, err := strconv.ParseUint(text, 10, 64)
	if err != nil || xact == 0 {
		return 0, fmt.Errorf("parse transaction %.30q: want a number above 0", text)
	}
	return xact, nil
}
