package e2e_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// More spans than the tail may have open, for policies that compute and sleep: another tenant's request and
// policy do not wait for them. Measured: 12 ms each alone, 102 ms and 13 ms beside the flood; when policies
// shared one lane, no end within a minute.
func TestATenantsSlowPoliciesHoldUpNoNeighbor(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.serve()
	s.insert(alice, policy("flood", `function on() {
		let n = 0; for (let i = 0; i < 6e6; i++) n += i; return []; }`))
	s.insert(alice, policy("flood", `async function on() {
		await new Promise((ends) => setTimeout(ends, 40000)); return []; }`))
	s.insert(bob, policy("order", alarm))
	measure := func() (request, judged time.Duration) {
		began := time.Now()
		f := function("return 1;")
		s.insert(bob, f)
		s.settled(f["trace_id"].(string), 1)
		request, began = time.Since(began), time.Now()
		o := order(columns{"visibility": "private"})
		s.insert(bob, o)
		s.emitted("alert", o["trace_id"].(string), 1)
		return request, time.Since(began)
	}
	measure()
	quietRequest, quietJudged := measure()
	must(t, s.as(alice, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into ledger.universal_registry (id, entity_type, who, owner_id, tenant_id,
			visibility, name) select gen_random_uuid(), 'flood', 'user:alice', 'alice', 'acme', 'private', 'x'
			from generate_series(1, 10300)`)
		return err
	}))
	request, judged := measure()
	t.Logf("request %v, policy %v; alone %v, %v", request, judged, quietRequest, quietJudged)
	if most := 20 * time.Second; request > most || judged > most {
		t.Errorf("a neighbor waits %v for his request and %v for his policy", request, judged)
	}
}
