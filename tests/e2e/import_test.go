package e2e_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

// What came in through the import door has run elsewhere: functions, policies and the manifest stay in
// force, and nothing that was open or unseen is run or shown to a policy.
func TestNothingFromBeforeAnEpochIsRouted(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	code := s.insert(alice, function(`return input;`, columns{"status": "active"}))
	s.insert(alice, policy("order", alarm))
	_, err := s.owner.Exec(t.Context(), "select ledger.import_begin()")
	if err == nil || !strings.Contains(err.Error(), "a sidecar is attached: ") ||
		!strings.Contains(err.Error(), "replication slot loglineos") {
		t.Errorf("import_begin beside a sidecar: got %v, want a refusal that names its slot", err)
	}
	if exit := sidecar.Stop(syscall.SIGTERM); exit != 0 {
		t.Fatalf("the sidecar exits with %d", exit)
	}

	s.awaitDetached()

	call := func(input string) columns {
		return columns{"entity_type": "request", "status": "scheduled", "parent_id": code.ID, "input": input,
			"trace_id": "trace of " + input}
	}
	before := s.insert(alice, call("before"))
	s.insert(alice, function(`return 1;`, columns{"trace_id": "old function"}))
	s.insert(carol, order(columns{"trace_id": "old order"}))
	s.exec("select ledger.import_begin()")
	refusedStart(t, s.environment(), 1, "is being restored", "select ledger.import_end()")
	s.awaitDetached()
	s.exec("select ledger.import_end()")

	// The slot still brings all of it, and so does a scan of the whole table.
	for _, more := range []string{"the slot", "no slot and no cursor"} {
		if more != "the slot" {
			s.awaitDetached()
			s.exec("select pg_drop_replication_slot('loglineos')")
			s.exec("drop table engine.cursor")
		}
		sidecar := s.serve()
		s.insert(alice, call("after "+more))
		got := s.settled("trace of after "+more, 1)[0]
		sameJSON(t, got.execution(t).Output, `"after `+more+`"`)
		s.insert(carol, order(columns{"trace_id": "new order, " + more}))
		s.emitted("alert", "new order, "+more, 1)
		if exit := sidecar.Stop(syscall.SIGTERM); exit != 0 {
			t.Fatalf("the sidecar exits with %d", exit)
		}
	}
	if found := s.read("trace_id = any($1) and entity_type in ('execution', 'alert')",
		[]string{"trace of before", "old function", "old order"}); len(found) != 0 {
		t.Errorf("%d spans came of what was imported", len(found))
	}
	if latest := s.latest(before.ID); latest.Seq != 0 {
		t.Errorf("the imported request went on to %s", latest.StatusText())
	}

	// Its owner ends it, and calls again if he wants it after all.
	s.serve()
	s.insert(alice, columns{"id": before.ID, "seq": 1, "entity_type": "request", "status": "cancel_requested"})
	program.Eventually(t, "the imported request is cancelled", func() bool {
		return s.latest(before.ID).StatusText() == "cancelled"
	})
	s.insert(alice, call("once more"))
	sameJSON(t, s.settled("trace of once more", 1)[0].execution(t).Output, `"once more"`)
	if found := s.read("entity_type = 'epoch'"); len(found) != 1 || found[0].TenantID != "system" {
		t.Errorf("%d epochs, want one of the system", len(found))
	}
}

// awaitDetached returns when the server has noticed that the sidecar is gone.
func (s *system) awaitDetached() {
	s.t.Helper()
	program.Eventually(s.t, "the sidecar's sessions end", func() bool {
		return one[bool](s, `select not exists (
			select from pg_stat_activity where application_name like 'loglineos%')
			and not exists (select from pg_replication_slots where active)`)
	})
}

// A dump of a busy server, restored into a young one, has rows of transactions that are still to come.
func TestALedgerRestoredPastTheDoorIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.exec("select ledger.import_begin()")
	s.exec(`insert into ledger.universal_registry (id, seq, entity_type, who, at, accepted_at, xact, owner_id,
			tenant_id, visibility, is_deleted)
		values (ledger.uuid7(), 0, 'note', 'user:a', now(), now(), '4000000000', 'a', 't', 'private', false)`)
	s.exec("select ledger.import_end()")
	s.serve().Stop(syscall.SIGTERM) // an epoch covers it
	epoch := `delete from ledger.universal_registry where entity_type = 'epoch'`
	s.exec("alter table ledger.universal_registry disable trigger all")
	s.exec(epoch)
	s.exec("alter table ledger.universal_registry enable trigger all")
	refusedStart(t, s.environment(), 1, "was restored from another server", "ledger.import_begin()")
}

// The sidecar of this version needs the ledger of this version.
func TestAnOlderLedgerIsRefused(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.exec("drop function ledger_private.version()")
	refusedStart(t, s.environment(), 1, "older than version 0.2.0", "logline migrate")
}
