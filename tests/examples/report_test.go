package examples_test

import (
	"testing"
	"time"

	"github.com/loglineos/loglineos/tests/pages"
)

// The page of the nightly report does what it shows. With a schedule of seconds, through a time with no
// sidecar, each sale is in one report, and each report begins where the one before ended.
func TestReport(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.read(pages.Marked(t, "docs/examples/report/README.md"), nil)

	const reports = `from ledger.visible_timeline where entity_type = 'report' and owner_id = 'ops'`
	const counted = `select sum((row ->> 'count')::int) from ledger.visible_timeline as r,
		jsonb_array_elements(r.content -> 'rows') as row where r.entity_type = 'report' and r.owner_id = 'ops'`
	// The page has sold three that ops may read, twice.
	s.becomes("6", ops, counted)
	s.stop()
	sold := time.Now()
	s.paste("docs/examples/report/run.sh sell")
	const second = `select extract(epoch from now() - $1::timestamptz) > 5`
	s.becomes("true", ops, second, sold) // ticks that nobody is there for
	s.start()
	s.paste("docs/examples/report/run.sh sell")
	s.becomes("12", ops, counted)
	s.becomes("true", ops, `select count(*) > 3 from ledger.visible_timeline
		where entity_type = 'report' and accepted_at > $1`, sold)

	const gaps = `select count(*) from (select content ->> 'from' as here,
		lag(content ->> 'to') over (order by content ->> 'to') as before ` + reports + `) as r where here <> before`
	if n := s.text(ops, gaps); n != "0" {
		t.Errorf("%s reports do not begin where the one before ended", n)
	}
	if twice := s.text(ops, `select count(*) - count(distinct content ->> 'from') `+reports); twice != "0" {
		t.Errorf("%s reports begin where another one does", twice)
	}
	if n := s.text(ops, counted); n != "12" {
		t.Errorf("%s sales are counted, want 12", n)
	}
	if cents := s.text(alice, `select sum(value::int) `+reports); cents != "24600" {
		t.Errorf("alice reads %s cents, want 24600: her private sale is nobody's to count", cents)
	}
	if seen := s.text(bob, `select count(*) `+reports); seen != "0" {
		t.Errorf("bob of another tenant reads %s reports", seen)
	}
	if code := s.write(alice, `insert into ledger.universal_registry (id, seq, entity_type, status)
		select id, seq + 1, entity_type, 'forged' `+reports+` limit 1`); code != "LL002" {
		t.Errorf("alice changes a report: %q, want LL002", code)
	}
	if faults := s.text(ops, `select string_agg(error::text, '; ') from ledger.visible_timeline
		where entity_type in ('execution', 'incident') and error is not null`); faults != "" {
		t.Errorf("the function fails: %s", faults)
	}
}
