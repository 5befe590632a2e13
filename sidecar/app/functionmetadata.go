package app

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/loglineos/loglineos/sidecar/engine"
)

// functionKeys are the keys of a function's metadata that the engine reads; others are the author's own.
var functionKeys = []string{"schedule", "retry"}

// checkFunctionMetadata refuses a schedule that is malformed: of a published one only an incident would tell.
// It warns of a key that nobody reads and that looks like a slip of one that is read.
func checkFunctionMetadata(raw json.RawMessage) (warnings []string, err error) {
	if raw == nil || string(raw) == "null" {
		return nil, nil
	}
	var metadata map[string]json.RawMessage
	if err := json.Unmarshal(raw, &metadata); err != nil {
		return nil, fmt.Errorf("read metadata: it is no object: %.60q", raw)
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		for _, known := range functionKeys {
			if engine.IsSlip(key, known) {
				warnings = append(warnings, fmt.Sprintf("metadata.%.40s is not read; is metadata.%s meant?", key, known))
			}
		}
	}
	schedule := metadata["schedule"]
	if schedule == nil || string(schedule) == "null" {
		return warnings, nil
	}
	if err := engine.CheckSchedule(schedule); err != nil {
		return nil, fmt.Errorf("%w; `logline schedule check` prints when one ticks", err)
	}
	return warnings, nil
}
