// Package cron knows when a schedule ticks: a cron expression, read in a time zone.
//
// It owns what an expression may say and what daylight saving makes of it. It knows no spans and no clock:
// whoever asks says from when. The zones are those of Go's own copy of the tz database, so that every sidecar
// ticks at the same moments whatever its machine has installed.
//
//	clock set ahead   02:00 ─► 03:00   a time in the hour that is left out ticks once, when the clock jumps;
//	                                   with the hour * it is left out, too: the hours go on
//	clock set back    02:00 ─► 01:00   a time in the hour that comes twice ticks the first time;
//	                                   with the hour * both times
package cron

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // zones, where the machine has none

	"github.com/robfig/cron/v3"
)

// Schedule is an expression in a zone. It is immutable and safe for concurrent use.
type Schedule struct {
	text     string
	spec     cron.SpecSchedule // in UTC: it counts what the clock on the wall shows
	zone     *time.Location
	isHourly bool // the hour is *: the wall's clock does not matter
}

// starBit is how the parser marks a field that is *.
const starBit = 1 << 63

// textMax bounds an expression, in bytes.
const textMax = 200

// fields are what an expression has, by the parser's name of the optional one first.
const fields = cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow |
	cron.Descriptor

// Parse reads an expression of 5 fields (minute, hour, day of month, month, day of week), or of 6 with the
// seconds before them, or a word such as @hourly; zone is a name of the tz database, "" is UTC. The error
// says what is wrong with which part.
func Parse(text, zone string) (*Schedule, error) {
	text = strings.Join(strings.Fields(text), " ")
	switch {
	case text == "":
		return nil, fmt.Errorf(`cron is empty: want 5 fields, as in "*/5 * * * *"`)
	case len(text) > textMax:
		return nil, fmt.Errorf("cron has %d characters, the limit is %d", len(text), textMax)
	case strings.HasPrefix(text, "@every"):
		return nil, fmt.Errorf(`cron %.40q has no place in the day: want fields, as in "*/5 * * * *"`, text)
	case strings.Contains(text, "="):
		return nil, fmt.Errorf("cron %.40q: a zone belongs into tz", text)
	}
	location, err := loadZone(zone)
	if err != nil {
		return nil, err
	}
	parsed, err := cron.NewParser(fields).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cron %.80q: %w", text, explain(text, err))
	}
	spec, isSpec := parsed.(*cron.SpecSchedule)
	if !isSpec {
		return nil, fmt.Errorf("cron %.40q: want fields, as in %q", text, "*/5 * * * *")
	}
	for name, bits := range map[string]uint64{"second": spec.Second, "minute": spec.Minute, "hour": spec.Hour,
		"day of month": spec.Dom, "month": spec.Month, "day of week": spec.Dow} {
		if bits&^starBit == 0 {
			return nil, fmt.Errorf("cron %.80q: the %s names nothing", text, name)
		}
	}
	s := &Schedule{text, *spec, location, spec.Hour&starBit != 0}
	s.spec.Location = time.UTC
	if s.spec.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("cron %.80q never comes: there is no such day", text)
	}
	return s, nil
}

// field is one of an expression, and what it may say.
type field struct {
	name, want string
	option     cron.ParseOption
}

// fieldsInOrder are they with the seconds.
func fieldsInOrder() []field {
	return []field{
		{"second", "0 to 59", cron.Second}, {"minute", "0 to 59", cron.Minute}, {"hour", "0 to 23", cron.Hour},
		{"day of month", "1 to 31", cron.Dom}, {"month", "1 to 12, or jan to dec", cron.Month},
		{"day of week", "0 (Sunday) to 6, or sun to sat", cron.Dow},
	}
}

// ofOthers are marks that other crons have for days.
var ofOthers = regexp.MustCompile(`(?i)^(l|l-\d+|lw|\d+[lw]|[a-z]{3}l|.*#.*)$`)

// explain says what is wrong with which part of an expression that the parser refuses with err.
func explain(text string, err error) error {
	if strings.HasPrefix(text, "@") {
		return errors.New("want @hourly, @daily, @weekly, @monthly or @yearly, or fields")
	}
	parts, all := strings.Fields(text), fieldsInOrder()
	if len(parts) != len(all) && len(parts) != len(all)-1 {
		return fmt.Errorf("it has %d fields: want 5 (minute, hour, day of month, month, day of week), or 6 with "+
			"the seconds before them", len(parts))
	}
	for i, part := range parts {
		f := all[len(all)-len(parts)+i]
		if _, fault := cron.NewParser(f.option).Parse(part); fault == nil {
			continue
		}
		if strings.HasPrefix(f.name, "day") && ofOthers.MatchString(part) {
			return fmt.Errorf("the %s is %q: L, W and # are not known here; name the days that it may be, and let "+
				"the function look which it is", f.name, part)
		}
		return fmt.Errorf("the %s is %q: want %s, as one, a list 1,3, a range 1-3, or steps */2", f.name, part,
			f.want)
	}
	return err
}

func loadZone(name string) (*time.Location, error) {
	if name == "Local" { // what that is, each machine decides
		return nil, fmt.Errorf("tz %q: want a name of the tz database, such as America/Sao_Paulo", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("tz %.60q is not in the tz database: want a name such as America/Sao_Paulo", name)
	}
	return zone, nil
}

// String returns the expression, with one space between its fields.
func (s *Schedule) String() string { return s.text }

// Zone returns the name of the zone.
func (s *Schedule) Zone() string { return s.zone.String() }

// Next returns the first tick after a moment, in UTC; the zero time where there is none within five years.
func (s *Schedule) Next(after time.Time) time.Time {
	if s.zone == time.UTC {
		return s.spec.Next(after.UTC())
	}
	if s.isHourly {
		return s.nextHourly(after)
	}
	for wall := s.wall(after); ; {
		if wall = s.spec.Next(wall); wall.IsZero() {
			return wall
		}
		if tick := s.moment(wall); tick.After(after) {
			return tick
		}
	}
}

// nextHourly goes by what has passed: from each change of the zone's offset on, it reads the wall anew.
func (s *Schedule) nextHourly(after time.Time) time.Time {
	for at := after; ; {
		local := at.In(s.zone)
		_, seconds := local.Zone()
		offset := time.Duration(seconds) * time.Second
		_, end := local.ZoneBounds()
		wall := s.spec.Next(after.UTC().Add(offset))
		if wall.IsZero() {
			return wall
		}
		if tick := wall.Add(-offset); end.IsZero() || tick.Before(end) {
			return tick
		}
		at, after = end, end.Add(-time.Nanosecond)
	}
}

// wall is what the clock on the wall shows at a moment, written as if it were UTC.
func (s *Schedule) wall(at time.Time) time.Time {
	_, offset := at.In(s.zone).Zone()
	return at.UTC().Add(time.Duration(offset) * time.Second)
}

// moment is when the clock on the wall first shows a time; where it never does, when it jumps over it.
func (s *Schedule) moment(wall time.Time) time.Time {
	year, month, day := wall.Date()
	at := time.Date(year, month, day, wall.Hour(), wall.Minute(), wall.Second(), 0, s.zone)
	start, end := at.ZoneBounds()
	switch shown := s.wall(at); {
	case shown.After(wall):
		return start.UTC()
	case shown.Before(wall):
		return end.UTC()
	case start.IsZero():
		return at.UTC()
	}
	_, offset := start.Add(-time.Nanosecond).In(s.zone).Zone()
	if earlier := wall.Add(-time.Duration(offset) * time.Second); earlier.Before(start) {
		return earlier
	}
	return at.UTC()
}
