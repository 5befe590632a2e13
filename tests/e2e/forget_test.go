package e2e_test

import (
	"crypto/rand"
	"fmt"
	"syscall"
	"testing"
)

// answering is a policy that emits something, moves a span on, or neither, by what its version says.
func answering(version string) string {
	return `function on(span, ctx) {
		const n = Number(span.name.split(" ")[1]);
		if (n % 3 === 0) return [];
		return [{ emit_span: { entity_type: "alert", name: "` + version + ` " + span.name } },
			{ emit_span: { entity_type: "echo", name: span.name } }];
	}`
}

// The schema engine is dropped while the sidecar runs, and before it starts again: what policies have emitted
// stays as it is, by the versions that were in force then; what comes later is judged by those of later.
func TestDroppingTheSchemaEngineHasNoNewEffect(t *testing.T) {
	t.Parallel()
	s := setup(t)
	sidecar := s.serve()
	trace := rand.Text()
	orders := func(from, n int) {
		for i := from; i < from+n; i++ {
			s.insert(carol, order(columns{"name": fmt.Sprint("order ", i), "trace_id": trace}))
		}
	}
	emitted := func(n int) { s.emitted("alert", trace, n); s.emitted("echo", trace, n) }
	orders(100, 6) // before the first version: nobody's to judge
	first := policy("order", answering("first"))
	key := s.insert(alice, first)
	orders(0, 9)
	emitted(6)
	s.insert(alice, with(first, columns{"id": key.ID, "seq": 1, "code": answering("second")}))
	orders(9, 9)
	emitted(12)
	s.exec("drop schema engine cascade")
	orders(18, 3)
	emitted(14)
	killAndCheck(t, sidecar)
	s.exec("drop schema if exists engine cascade")
	s.insert(alice, with(first, columns{"id": key.ID, "seq": 2, "code": answering("third")}))
	sidecar = s.serve()
	orders(21, 3)
	emitted(16)
	if code := sidecar.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the sidecar ends with %d", code)
	}
	s.exec("drop schema if exists engine cascade")
	s.serve()
	orders(24, 3)
	emitted(18)

	got := one[string](s, `select string_agg(n::text || ' ' || version, ', ' order by version) from (
		select split_part(name, ' ', 1) as version, count(*) as n from ledger.universal_registry
		where entity_type = 'alert' and trace_id = $1 group by 1) as each`, trace)
	if got != "6 first, 8 second, 4 third" {
		t.Errorf("got %s", got)
	}
	if cursors := one[int](s, `select count(*) from ledger.universal_registry
		where entity_type = 'policy_cursor' and tenant_id = 'system' and this = 'policies'`); cursors == 0 {
		t.Error("there is no policy_cursor after a stop")
	}
	judge(t, s)
}
