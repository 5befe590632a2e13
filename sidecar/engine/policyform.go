package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// policyKeys are the keys of a policy's metadata that the engine reads.
var policyKeys = []string{"when", "every", "at", "per", "window", "fill", "fill_max"}

// checkPolicyForm refuses what would be passed over in silence, and so make a policy that judges more, or
// other moments, than its author believes: a key that is a slip of one that is read, and a key that has no
// effect beside the others. Other keys are the author's own.
func checkPolicyForm(raw json.RawMessage, isOfSystem bool) error {
	if raw == nil {
		return nil
	}
	var metadata map[string]json.RawMessage
	if err := json.Unmarshal(raw, &metadata); err != nil {
		return fmt.Errorf("decode metadata: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		for _, known := range policyKeys {
			if IsSlip(key, known) {
				return fmt.Errorf("metadata.%.40s is not read, and looks like %s: write that, or another name", key,
					known)
			}
		}
	}
	states := func(key string) bool { return metadata[key] != nil && string(metadata[key]) != "null" }
	if !states("every") {
		for _, key := range []string{"at", "per", "window", "fill", "fill_max"} {
			if states(key) {
				return fmt.Errorf("%s is of policies on time: state every (minute, hour or day), too, or leave it out",
					key)
			}
		}
		return nil
	}
	if string(metadata["every"]) == `""` {
		return fmt.Errorf("every is empty: want minute, hour or day")
	}
	for _, key := range []string{"when", "per", "window"} {
		if states(key) && !isOfSystem {
			return fmt.Errorf("%s beside every is of the system's policies; yours is judged for you alone, and finds "+
				"by ctx.find what it is about: leave %s out", key, key)
		}
	}
	return nil
}

// IsSlip reports whether key, of metadata, is another than known, and known was likely meant: it is but for
// its case, or, of words of four letters and more, for one letter that is missing, too many, another, or in
// the place of its neighbor. The first letter counts for more: then is no slip of when.
func IsSlip(key, known string) bool { return key != known && isSlip(strings.ToLower(key), known) }

func isSlip(text, known string) bool {
	switch {
	case text == known:
		return true
	case len(known) < 4 || text == "":
		return false
	case len(text) == len(known):
		from, to := 0, len(known)
		for from < to && text[from] == known[from] {
			from++
		}
		for to > from && text[to-1] == known[to-1] {
			to--
		}
		isSwap := to-from == 2 && text[from] == known[from+1] && text[from+1] == known[from]
		return isSwap || to-from == 1 && from > 0
	case len(text) == len(known)-1:
		return isOneLess(text, known) && text[0] == known[0]
	}
	return len(text) == len(known)+1 && isOneLess(known, text)
}

// isOneLess reports whether short is long without one letter.
func isOneLess(short, long string) bool {
	for i := range long {
		if short == long[:i]+long[i+1:] {
			return true
		}
	}
	return false
}
