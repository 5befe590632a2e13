package span

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Snapshot says which transactions were committed at a moment: a pg_snapshot
// (https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT). Its zero value sees
// none. It is not changed after it was made, so it may be shared.
type Snapshot struct {
	xmin, xmax uint64   // all below xmin had ended, none from xmax on had begun
	xip        []uint64 // those between that were under way, sorted
}

// ParseSnapshot reads the text form of a pg_snapshot, xmin:xmax:xip,xip,…. The empty text is the zero value.
func ParseSnapshot(text string) (Snapshot, error) {
	if text == "" {
		return Snapshot{}, nil
	}
	malformed := fmt.Errorf("parse snapshot %.80q: want xmin:xmax:xip,xip", text)
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return Snapshot{}, malformed
	}
	var s Snapshot
	var err, fault error
	s.xmin, err = strconv.ParseUint(parts[0], 10, 64)
	s.xmax, fault = strconv.ParseUint(parts[1], 10, 64)
	if err != nil || fault != nil || s.xmin == 0 || s.xmax < s.xmin {
		return Snapshot{}, malformed
	}
	if parts[2] == "" {
		return s, nil
	}
	for part := range strings.SplitSeq(parts[2], ",") {
		xact, err := strconv.ParseUint(part, 10, 64)
		if err != nil || xact < s.xmin || xact >= s.xmax || len(s.xip) > 0 && xact < s.xip[len(s.xip)-1] {
			return Snapshot{}, malformed
		}
		s.xip = append(s.xip, xact)
	}
	return s, nil
}

// Sees reports whether what the transaction xact wrote is in s, if it was committed at all
// (pg_visible_in_snapshot).
func (s Snapshot) Sees(xact uint64) bool {
	if xact < s.xmin || xact >= s.xmax {
		return xact < s.xmin
	}
	_, isUnderWay := slices.BinarySearch(s.xip, xact)
	return !isUnderWay
}

// Until returns the text of the snapshot that sees what s sees of the transactions up to xact, and no later
// one.
func (s Snapshot) Until(xact uint64) string {
	xmax := min(s.xmax, xact+1)
	var xip []string
	for _, open := range s.xip {
		if open < xmax {
			xip = append(xip, strconv.FormatUint(open, 10))
		}
	}
	return fmt.Sprintf("%d:%d:%s", min(s.xmin, xmax), xmax, strings.Join(xip, ","))
}

// Min returns the transaction below which s sees all; 0 for the zero value.
func (s Snapshot) Min() uint64 { return s.xmin }

// Max returns the transaction from which on s sees none; 0 for the zero value.
func (s Snapshot) Max() uint64 { return s.xmax }

// Before is what s sees of the transactions below xact.
func (s Snapshot) Before(xact uint64) Snapshot {
	if xact >= s.xmax || xact == 0 {
		return s
	}
	cut := Snapshot{xmin: min(s.xmin, xact), xmax: xact}
	for _, underWay := range s.xip {
		if underWay < xact {
			cut.xip = append(cut.xip, underWay)
		}
	}
	return cut
}

// Unseen returns the transactions up to one below Max that s does not see.
func (s Snapshot) Unseen(upTo uint64) []uint64 {
	end, isThere := slices.BinarySearch(s.xip, upTo)
	if isThere {
		end++
	}
	return s.xip[:end:end]
}

// IsZero reports whether s sees nothing.
func (s Snapshot) IsZero() bool { return s.xmax == 0 }

// String returns the text form; that of the zero value is empty.
func (s Snapshot) String() string {
	if s.IsZero() {
		return ""
	}
	text := fmt.Appendf(nil, "%d:%d:", s.xmin, s.xmax)
	for i, xact := range s.xip {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendUint(text, xact, 10)
	}
	return string(text)
}

// SeesAll reports whether s sees every transaction from first to last.
func (s Snapshot) SeesAll(first, last uint64) bool {
	place, isUnderWay := slices.BinarySearch(s.xip, first)
	return last < s.xmin || last < s.xmax && !isUnderWay && (place == len(s.xip) || s.xip[place] > last)
}
