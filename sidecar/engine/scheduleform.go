package engine

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/loglineos/loglineos/sidecar/cron"
	"github.com/loglineos/loglineos/sidecar/ledger"
)

// Bounds of a schedule's form.
const (
	fillDefault  = 100     // ticks that all makes up for
	fillMax      = 1000    // at most
	tickInputMax = 4 << 10 // bytes: schedules are kept in memory
)

// What becomes of ticks that were missed.
const (
	fillNone = "none"
	fillLast = "last"
	fillAll  = "all"
)

// fill says what becomes of ticks that nobody was there for.
type fill struct {
	rule string
	most int // of all
}

// readFill reads fill and fill_max; rule is what holds where nothing is stated.
func readFill(rule, stated string, most *int) (fill, error) {
	f := fill{rule, fillDefault}
	switch stated {
	case fillNone, fillLast, fillAll:
		f.rule = stated
	case "":
	default:
		return f, fmt.Errorf("fill is %.40q: want none, last or all", stated)
	}
	switch {
	case most == nil:
	case f.rule != fillAll:
		return f, fmt.Errorf("fill_max is of fill all: state that, or leave fill_max out")
	case *most < 1 || *most > fillMax:
		return f, fmt.Errorf("fill_max is %d: want 1 to %d", *most, fillMax)
	default:
		f.most = *most
	}
	return f, nil
}

// scheduleForm is what metadata.schedule of a function states.
type scheduleForm struct {
	when  *cron.Schedule
	fill  fill
	input json.RawMessage // nil: the function's own
}

// CheckSchedule says what is malformed in metadata.schedule of a function: such a one never ticks, and only
// an incident tells.
func CheckSchedule(raw json.RawMessage) error {
	_, err := readSchedule(raw)
	return err
}

// readSchedule reads metadata.schedule. A key that is not read is refused: nobody would notice the slip.
func readSchedule(raw json.RawMessage) (*scheduleForm, error) {
	if len(raw) > ledger.ScheduleMax { // as the ledger gives it, it may be cut off
		return nil, fmt.Errorf("metadata.schedule has more than %d bytes", ledger.ScheduleMax)
	}
	var stated struct {
		Cron    string          `json:"cron"`
		TZ      string          `json:"tz"`
		Fill    string          `json:"fill"`
		FillMax *int            `json:"fill_max"`
		Input   json.RawMessage `json:"input"`
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&stated); err != nil {
		return nil, fmt.Errorf(`metadata.schedule is %.80s: want {"cron": "…"}, and of tz, fill, fill_max and `+
			`input what it needs, no other key`, raw)
	}
	if len(stated.Input) > tickInputMax {
		return nil, fmt.Errorf("metadata.schedule.input has %d bytes, the limit is %d: put it into the function's "+
			"own input", len(stated.Input), tickInputMax)
	}
	form := &scheduleForm{input: stated.Input}
	if string(stated.Input) == "null" {
		form.input = nil
	}
	var err error
	if form.when, err = cron.Parse(stated.Cron, stated.TZ); err != nil {
		return nil, fmt.Errorf("metadata.schedule: %w", err)
	}
	if form.fill, err = readFill(fillNone, stated.Fill, stated.FillMax); err != nil {
		return nil, fmt.Errorf("metadata.schedule: %w", err)
	}
	return form, nil
}
