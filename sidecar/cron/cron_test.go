package cron

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func at(t testing.TB, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

func parse(t testing.TB, text, zone string) *Schedule {
	t.Helper()
	s, err := Parse(text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSchedulesTick(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, zone, after, want string }{
		{"*/5 * * * *", "", "2026-11-23T10:44:59Z", "10:45:00 10:50:00 10:55:00"},
		{"*/5 * * * *", "", "2026-11-23T10:45:00Z", "10:50:00 10:55:00 11:00:00"},
		{"*/20 * * * * *", "UTC", "2026-11-23T10:44:00.5Z", "10:44:20 10:44:40 10:45:00"},
		{"@hourly", "", "2026-11-23T10:44:00Z", "11:00:00 12:00:00 13:00:00"},
		{" 30  9 * *  mon-fri ", "America/Sao_Paulo", "2026-11-20T12:30:00Z",
			"23T12:30:00 24T12:30:00 25T12:30:00"},
		{"0 0 29 2 *", "", "2026-11-23T10:44:00Z", "2028-02-29T00:00:00 2032-02-29T00:00:00 2036-02-29T00:00:00"},
		{"0 12 1 * mon", "", "2026-11-23T12:00:00Z", "30T12:00:00 2026-12-01T12:00:00 2026-12-07T12:00:00"},
		// New York sets its clocks from 02:00 to 03:00 (07:00 in UTC) on 8 March …
		{"30 2 * * *", "America/New_York", "2026-03-07T07:30:00Z", "08T07:00:00 09T06:30:00 10T06:30:00"},
		{"*/20 2 * * *", "America/New_York", "2026-03-08T06:59:00Z", "07:00:00 09T06:00:00 09T06:20:00"},
		{"0 2,3 * * *", "America/New_York", "2026-03-08T06:00:00Z", "07:00:00 09T06:00:00 09T07:00:00"},
		{"30 * * * *", "America/New_York", "2026-03-08T05:45:00Z", "06:30:00 07:30:00 08:30:00"},
		{"0 * * * *", "America/New_York", "2026-03-08T05:45:00Z", "06:00:00 07:00:00 08:00:00"},
		// … and from 02:00 back to 01:00 (06:00 in UTC) on 1 November.
		{"30 1 * * *", "America/New_York", "2026-10-31T05:30:00Z", "2026-11-01T05:30:00 02T06:30:00 03T06:30:00"},
		{"30 1 * * *", "America/New_York", "2026-11-01T05:45:00Z", "02T06:30:00 03T06:30:00 04T06:30:00"},
		{"30 1 * * *", "America/New_York", "2026-11-01T06:15:00Z", "02T06:30:00 03T06:30:00 04T06:30:00"},
		{"0 1,2 * * *", "America/New_York", "2026-11-01T04:30:00Z", "05:00:00 07:00:00 02T06:00:00"},
		{"30 * * * *", "America/New_York", "2026-11-01T04:45:00Z", "05:30:00 06:30:00 07:30:00"},
		{"*/30 1 * * *", "America/New_York", "2026-11-01T05:30:00Z", "02T06:00:00 02T06:30:00 03T06:00:00"},
		// Lord Howe sets its clocks by half an hour, and Samoa has left out 30 December 2011.
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T10:00:00Z", "15:30:00 04T15:15:00 05T15:15:00"},
		{"0 9 * * *", "Pacific/Apia", "2011-12-29T18:00:00Z", "19:00:00 30T10:00:00 30T19:00:00"},
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03T04:00:00Z", "04T03:00:00 05T02:00:00 06T02:00:00"},
	} {
		s, moment := parse(t, c.text, c.zone), at(t, c.after)
		var got []string
		for last := moment; len(got) < 3; {
			moment = s.Next(moment)
			full := moment.Format("2006-01-02T15:04:05")
			switch {
			case moment.Format(time.DateOnly) == last.Format(time.DateOnly):
				full = moment.Format("15:04:05")
			case moment.Format("2006-01") == last.Format("2006-01"):
				full = moment.Format("02T15:04:05")
			}
			got, last = append(got, full), at(t, c.after)
		}
		want := strings.Fields(c.want)
		for i := range want {
			if !strings.HasSuffix(got[i], want[i]) {
				t.Errorf("%s (%s) after %s: got %v, want %v", c.text, c.zone, c.after, got, want)
				break
			}
		}
	}
}

func TestMalformedSchedulesSayWhy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, zone, want string }{
		{"", "", "cron is empty"},
		{"* * * *", "", "it has 4 fields: want 5"},
		{"* * * * * * *", "", "it has 7 fields: want 5"},
		{"60 * * * *", "", `the minute is "60": want 0 to 59`},
		{"* * * * someday", "", "someday"},
		{"*/0 * * * *", "", "step"},
		{"5-1 * * * *", "", `the minute is "5-1"`},
		{"0 0 * * 7", "", `the day of week is "7": want 0 (Sunday) to 6`},
		{"0 0 * * mo", "", `the day of week is "mo": want 0 (Sunday) to 6, or sun to sat`},
		{"0 0 L * *", "", `the day of month is "L": L, W and # are not known here`},
		{"0 0 * * 1#2", "", "L, W and # are not known here"},
		{"0 0 1W * *", "", "L, W and # are not known here"},
		{"0 0 1 jull *", "", `the month is "jull": want 1 to 12, or jan to dec`},
		{"61 0 0 * * *", "", `the second is "61"`},
		{"@reboot", "", "want @hourly, @daily, @weekly, @monthly or @yearly"},
		{", * * * *", "", "the minute names nothing"},
		{"0 0 30 2 *", "", "never comes"},
		{"@every 5m", "", "no place in the day"},
		{"@yesterday", "", "@yesterday"},
		{"TZ=UTC * * * * *", "", "belongs into tz"},
		{"CRON_TZ=", "", "belongs into tz"},
		{strings.Repeat("1,", 100) + "1 * * * *", "", "the limit is 200"},
		{"* * * * *", "Mars/Olympus", "not in the tz database"},
		{"* * * * *", "../../etc/passwd", "not in the tz database"},
		{"* * * * *", "Local", "want a name"},
	} {
		if _, err := Parse(c.text, c.zone); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q: got %v, want …%s…", c.text, c.zone, err, c.want)
		}
	}
}

// Next goes on, by whole seconds, and gives what the wall shows: over a year of zones with daylight saving,
// against a clock on the wall that is looked at each minute.
func TestNextLeavesNothingOut(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"America/New_York", "Australia/Lord_Howe", "Europe/Dublin",
		"Africa/Casablanca", "America/Sao_Paulo", "UTC"} {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		fixed, hourly := parse(t, "*/15 0-3 * * *", zone), parse(t, "*/15 * * * *", zone)
		from, until := at(t, "2018-01-01T00:00:00Z"), at(t, "2018-12-31T00:00:00Z")
		wantFixed, wantHourly := map[time.Time]bool{}, map[time.Time]bool{}
		seen := map[string]bool{} // times of the day that the wall has shown
		_, before := from.In(location).Zone()
		for m := from.Add(time.Minute); m.Before(until); m = m.Add(time.Minute) {
			local := m.In(location)
			_, offset := local.Zone()
			for skipped := before + 60; skipped <= offset; skipped += 60 { // minutes that the wall jumps over
				wall := m.Add(time.Duration(skipped-60) * time.Second).UTC()
				if skipped > before && wall.Minute()%15 == 0 && wall.Hour() <= 3 {
					wantFixed[m] = true
				}
			}
			before = offset
			if local.Minute()%15 != 0 {
				continue
			}
			wantHourly[m] = true
			shown := local.Format("2006-01-02 15:04")
			if local.Hour() <= 3 && !seen[shown] {
				wantFixed[m] = true
			}
			seen[shown] = true
		}
		compare(t, zone+" fixed", fixed, from, until, wantFixed)
		compare(t, zone+" hourly", hourly, from, until, wantHourly)
	}
}

func compare(t *testing.T, what string, s *Schedule, from, until time.Time, want map[time.Time]bool) {
	t.Helper()
	faults := 0
	for m := s.Next(from); m.Before(until); m = s.Next(m) {
		if !want[m] {
			if faults++; faults < 5 {
				t.Errorf("%s: ticks at %s, and should not", what, m)
			}
		}
		delete(want, m)
	}
	for m := range want {
		if faults++; faults < 5 {
			t.Errorf("%s: does not tick at %s", what, m)
		}
	}
}

// Whatever is written where a schedule is wanted: it is refused, or it goes on.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"*/5 * * * *", "@hourly", "0 0 29 2 *", "1-5/2,7 * ? jan sun", "TZ=0",
		"* * * * * *"} {
		f.Add(text, "America/New_York")
	}
	f.Fuzz(func(t *testing.T, text, zone string) {
		s, err := Parse(text, zone)
		if err != nil {
			return
		}
		moment := at(t, "2026-03-08T06:59:59Z")
		for range 5 {
			next := s.Next(moment)
			if next.IsZero() {
				return
			}
			if !next.After(moment) || next.Nanosecond() != 0 {
				t.Fatalf("%s in %s: after %s comes %s", s, s.Zone(), moment, next)
			}
			moment = next
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for _, zone := range []string{"UTC", "America/New_York"} {
		for _, text := range []string{"*/5 * * * *", "30 2 * * *"} {
			b.Run(fmt.Sprintf("%s %s", text, zone), func(b *testing.B) {
				s, moment := parse(b, text, zone), at(b, "2026-01-01T00:00:00Z")
				for b.Loop() {
					moment = s.Next(moment)
					if moment.Year() > 2030 {
						moment = at(b, "2026-01-01T00:00:00Z")
					}
				}
			})
		}
	}
}
