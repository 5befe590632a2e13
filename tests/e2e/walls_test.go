package e2e_test

import (
	"strings"
	"testing"

	"github.com/loglineos/loglineos/tests/program"
)

// While a wall of the ledger does not stand, the sidecar works, and says loudly that it is not ready.
func TestAFallenWallIsReported(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve("LOGLINE_WALLS_MS=100")
	const trigger = "trigger universal_registry_before_change_row"
	s.exec("alter table ledger.universal_registry disable " + trigger)
	var answer program.Readiness
	program.Eventually(t, "the sidecar sees the wall that fell", func() bool {
		answer = sidecar.Readiness()
		return answer.Code == 503
	})
	_, mend, _ := strings.Cut(answer.Reason, "; mend: ")
	if answer.Ready || !strings.Contains(answer.Reason, "1 of the ledger's walls do not stand") ||
		!strings.Contains(answer.Reason, trigger) || mend == "" {
		t.Errorf("/readyz answers %+v", answer)
	}
	sameJSON(t, s.run(alice, `return 1;`).execution(t).Output, `1`)

	s.exec(mend)
	sidecar.AwaitReady()
	for line, want := range map[string]int{"a wall of the ledger does not stand": 1, "stands again": 1} {
		if count := strings.Count(sidecar.Err.String(), line); count != want {
			t.Errorf("%q is in the log %d times, want %d", line, count, want)
		}
	}
}

// The database can not vouch for guard_check; the sidecar can.
func TestAReplacedGuardCheckIsReported(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, name := range []string{"ledger.guard_check()", "ledger_private.fingerprints()"} {
		s.exec(`do $do$ begin execute regexp_replace(pg_get_functiondef('` + name + `'::regprocedure),
			'\$function\$.*\$function\$', '$$ begin end $$'); end $do$`)
	}
	s.exec("alter table ledger.universal_registry disable trigger all")
	answer := program.Readiness{}
	sidecar := s.spawn()
	program.Eventually(t, "the sidecar sees that guard_check is another", func() bool {
		answer = sidecar.Readiness()
		return strings.Contains(answer.Reason, "function ledger.guard_check()")
	})
	if answer.Code != 503 || !strings.Contains(answer.Reason, "2 of the ledger's walls") {
		t.Errorf("/readyz answers %+v", answer)
	}
}
