package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/loglineos/loglineos/sidecar/span"
	"github.com/loglineos/loglineos/tests/program"
)

// requests runs `logline requests` as the database's owner, and returns what it prints.
func (s *system) requests(code int, args ...string) string {
	s.t.Helper()
	p := program.Start(s.t, []string{"DATABASE_URL=" + s.db.URL}, append([]string{"requests"}, args...)...)
	if got := p.Wait(); got != code {
		s.t.Fatalf("logline requests %v exits with %d, want %d:\n%s%s", args, got, code, p.Out.String(),
			p.Err.String())
	}
	return p.Said()
}

// dies makes the first n requests of a trace dead, as three lost sidecars leave them. It returns all ids.
func (s *system) dies(trace string, n int) (ids []string) {
	s.t.Helper()
	for _, row := range s.read("entity_type = 'request' and trace_id = $1", trace) {
		ids = append(ids, row.ID.String())
	}
	for _, id := range ids[:n] {
		for seq, status := range []string{"running", "dead"} {
			s.asSidecar(`insert into ledger.universal_registry (id, seq, entity_type, who, did, owner_id, tenant_id,
					visibility, parent_id, status, attempt, reason, error)
				select id, $2, entity_type, 'sidecar:gone', 'claimed', owner_id, tenant_id, visibility, parent_id, $3,
					1, 'lost 3', '{"code": "crash", "message": "it was lost"}'
				from ledger.universal_registry where id = $1::text::uuid and seq = 0`, id, seq+1, status)
		}
	}
	return ids
}

// asSidecar runs a statement as the sidecar's role.
func (s *system) asSidecar(sql string, args ...any) {
	s.t.Helper()
	err := pgx.BeginFunc(s.t.Context(), s.owner, func(tx pgx.Tx) error {
		if _, err := tx.Exec(s.t.Context(), "set local role loglineos_sidecar"); err != nil {
			return err
		}
		_, err := tx.Exec(s.t.Context(), sql, args...)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func TestLoglineRequestsListsShowsRedrivesAndCancels(t *testing.T) {
	t.Parallel()
	s := setup(t)
	f := s.insert(alice, function(`return 1;`, columns{"status": "active", "name": "one\x1b[2J"})).ID
	trace := s.callMany(alice, f, 4)
	ids := s.dies(trace, 2)
	dead := s.requests(0, "list", "--dead", "--tenant", alice.tenant, "--function", f.String(), "--since", "1h")
	if !strings.Contains(dead, ids[0]) || strings.Contains(dead, ids[2]) ||
		!strings.Contains(dead, "lost 3; crash: it was lost") {
		t.Errorf("list --dead prints\n%s", dead)
	}
	var listed []struct {
		ID     string
		Status string
		Error  struct{ Code string }
	}
	if err := json.Unmarshal([]byte(s.requests(0, "--json", "--limit", "3")), &listed); err != nil ||
		len(listed) != 3 || listed[0].Status != "dead" || listed[0].Error.Code != "crash" {
		t.Errorf("--json prints %+v, %v", listed, err)
	}
	if none := s.requests(0, "--status", "blocked"); none != "no request\n" {
		t.Errorf("an empty list prints %q", none)
	}
	shown := s.requests(0, "show", ids[0])
	named := "function  one [2J  " + f.String()
	for _, want := range []string{ids[0], named, "sidecar:gone", "scheduled", "dead"} {
		if !strings.Contains(shown, want) {
			t.Errorf("show prints no %s:\n%s", want, shown)
		}
	}

	dry := s.requests(0, "redrive", "--dead", "--reason-like", "LOST")
	if !strings.Contains(dry, "would redrive 2 requests; nothing is changed: add --yes") {
		t.Errorf("the dry run prints\n%s", dry)
	}
	if n := one[int](s, "select count(*) from ledger.universal_registry where who like 'operator:%'"); n != 0 {
		t.Errorf("the dry run appends %d versions", n)
	}
	if none := s.requests(0, "--status", "blocked", "--json"); none != "[]\n" {
		t.Errorf("an empty list prints %q", none)
	}
	if said := s.requests(1, "redrive", ids[2]); !strings.Contains(said, "only dead ones are redriven") {
		t.Errorf("redrive of an open one says %q", said)
	}
	s.requests(1, "show", "01890000-0000-7000-8000-000000000000") // there is none
	s.requests(0, "redrive", ids[0], "--reason", "the host is back")
	if said := s.requests(0, "redrive", "--dead", "--yes"); said != "redrive: 1 of 1 requests\n" {
		t.Errorf("redrive --yes prints %q", said)
	}
	if said := s.requests(0, "cancel", ids[2]); said != "cancel: 1 of 1 requests\n" {
		t.Errorf("cancel prints %q", said)
	}
	redriven := s.latest(span.MustID(ids[0]))
	if redriven.StatusText() != "scheduled" || redriven.Seq != 3 ||
		!strings.HasPrefix(redriven.Who, "operator:") ||
		*redriven.Reason != "the host is back" || redriven.OwnerID != alice.sub || *redriven.ParentID != f {
		t.Errorf("redriven: %+v", redriven)
	}
	s.serve()
	s.stands(trace, "cancelled 1, complete 3, complete 3")
	execution := s.read("entity_type = 'execution' and related_to @> array[$1::text::uuid]", ids[0])
	if last := s.requests(0, "show", ids[0]); len(execution) != 1 ||
		!strings.Contains(last, execution[0].ID.String()) {
		t.Errorf("show prints no execution:\n%s", last)
	}
	broken := s.insert(alice, function(`throw new Error("boom")`, columns{"status": "active"})).ID
	failed := s.callMany(alice, broken, 1)
	s.stands(failed, "error 1, error 1")
	wrong := s.read("entity_type = 'request' and trace_id = $1 and seq = 0", failed)[0].ID.String()
	lines := strings.Split(strings.TrimSpace(s.requests(0, "show", wrong)), "\n")
	if n := len(lines); n < 3 || !strings.Contains(lines[n-1], "version") ||
		!strings.Contains(lines[n-2], "execution ") ||
		!strings.HasSuffix(lines[n-1], "exception: Error: boom") ||
		!strings.HasSuffix(lines[n-2], "Error: boom") {
		t.Errorf("show of one that failed prints\n%s", strings.Join(lines, "\n"))
	}
	if said := s.requests(1, "show", broken.String()); !strings.Contains(said,
		"it is of type function, no request: `logline requests --function "+broken.String()) {
		t.Errorf("show of a function says %q", said)
	}
	if said := s.requests(0, "--reason-like", "exception: Error: BOOM"); strings.Contains(said, "no request") ||
		strings.Count(said, "\n") != 2 {
		t.Errorf("--reason-like does not search what WHY shows:\n%s", said)
	}
}

func TestLoglineRequestsRefusesWrongUse(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, args := range []string{"lsit", "show", "show x", "list 01890000-0000-7000-8000-000000000000",
		"redrive", "redrive --status complete --yes", "cancel --dead --yes", "--status odd", "--limit 0", "--yes",
		"--since -1h", "redrive 01890000-0000-7000-8000-000000000000 --dead", "--function f"} {
		if said := s.requests(2, strings.Fields(args)...); !strings.Contains(said, "logline help requests") {
			t.Errorf("requests %s says %q", args, said)
		}
	}
	if said := s.requests(0, "--help"); !strings.Contains(said, "Examples:") {
		t.Errorf("--help prints %q", said)
	}
	if said := s.requests(0, "cancel", "--tenant", "nobody", "--yes"); said != "cancel: 0 of 0 requests\n" {
		t.Errorf("a filter that chooses none prints %q", said)
	}
}

// Many are cancelled in pages, however the sidecar moves them on meanwhile.
func TestLoglineRequestsCancelsManyWhileTheyRun(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.govern(limit(100_000, 100_000))
	f := s.insert(alice, function(`let n = 0; for (let i = 0; i < 200000; i++) n += i; return n;`,
		columns{"status": "active"})).ID
	trace := s.callMany(alice, f, 1200)
	s.serve()
	program.Eventually(t, "some have run", func() bool {
		return one[int](s, "select count(*) from ledger.universal_registry where entity_type = 'execution'") > 20
	})
	s.requests(0, "cancel", "--status", "open", "--function", f.String(), "--yes")
	program.Eventually(t, "none is open", func() bool {
		return one[int](s, `select count(*) from ledger.universal_registry r where trace_id = $1
			and entity_type = 'request' and status not in ('complete', 'cancelled') and not exists (
				select from ledger.universal_registry v where v.id = r.id and v.seq = r.seq + 1)`, trace) == 0
	})
	if states := s.states(trace); !strings.HasPrefix(states, "cancelled ") {
		t.Errorf("they stand as %s", states)
	}
	fmt.Fprintln(t.Output(), s.states(trace))
	judge(t, s)
}
