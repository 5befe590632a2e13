package engine

import (
	"slices"
	"testing"

	"github.com/loglineos/loglineos/sidecar/ledger"
)

// crowdedSQL appends many rows of mallory, and one of alice after them.
const crowdedSQL = `insert into ledger.universal_registry
		(entity_type, status, name, code, owner_id, tenant_id, who, metadata)
	select $1, 'active', 'of ' || o.name, 'return 1', o.name, 't1', 'client:test', $2::text::jsonb
	from (values ('mallory', $3::int), ('alice', 1)) as o (name, n)
	cross join generate_series(1, o.n)
	order by o.name desc`

// A new leader holds of each tenant about what may be in force, whatever has been appended; and what is in
// force under one leader is under the next.
func TestANewLeaderReadsNoMoreThanMayBeInForce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn := b.connect()
	exec(t, conn, crowdedSQL, "function", `{"schedule": {"cron": "@yearly"}}`, 5*schedulesMax)
	exec(t, conn, crowdedSQL, "policy", `{"when": {"entity_type": "x"}}`, 3*policiesMax)
	exec(t, conn, `insert into ledger.universal_registry (entity_type, status, name, code, owner_id, tenant_id, who,
			metadata)
		select 'function', 'active', 'long', 'return 1', 'alice', 't2', 'client:test',
			jsonb_build_object('schedule', jsonb_build_object('cron', repeat('*', 200000)))`)

	stated, _, err := b.engine.readSchedules(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(stated) > 2*schedulesMax {
		t.Errorf("%d schedules are read", len(stated))
	}
	isOf := func(tenant, owner string) func(ledger.Schedule) bool {
		return func(s ledger.Schedule) bool { return s.TenantID == tenant && s.OwnerID == owner }
	}
	long := slices.IndexFunc(stated, isOf("t2", "alice"))
	if long < 0 || len(stated[long].Form) > 2*ledger.ScheduleMax {
		t.Errorf("of the long one %d", long)
	}
	rules, faults, err := b.engine.readVersions(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if rules.counts["t1"] != policiesMax || len(rules.byID) > policiesMax || len(faults) != refusedMax {
		t.Errorf("%d policies are in force, %d are known, %d are refused", rules.counts["t1"], len(rules.byID),
			len(faults))
	}
	if err := b.engine.Lead(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	inForce := map[string]int{}
	if err := b.engine.tell(t.Context(), func() {
		for _, s := range b.engine.schedules.byID {
			inForce[s.OwnerID]++
		}
	}); err != nil {
		t.Fatal(err)
	}
	if inForce["alice"] != 1 || inForce["mallory"] != schedulesPer {
		t.Errorf("schedules in force: %v", inForce)
	}
}
