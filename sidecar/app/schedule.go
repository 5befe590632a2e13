package app

import (
	"time"

	"github.com/loglineos/loglineos/sidecar/cron"
)

// NextTicks returns the next n ticks of a cron expression after a moment, in its zone. The error says what is
// wrong with the expression or the zone. They are fewer than n where it does not tick for five years.
func NextTicks(expression, zone string, after time.Time, n int) ([]time.Time, error) {
	schedule, err := cron.Parse(expression, zone)
	if err != nil {
		return nil, err
	}
	location, err := time.LoadLocation(schedule.Zone())
	if err != nil {
		return nil, err
	}
	var ticks []time.Time
	for at := schedule.Next(after); len(ticks) < n && !at.IsZero(); at = schedule.Next(at) {
		ticks = append(ticks, at.In(location))
	}
	return ticks, nil
}
