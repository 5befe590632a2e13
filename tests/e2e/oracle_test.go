package e2e_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// laws are the invariants of the ledger after a storm, each a query for what breaks it.
var laws = []struct{ name, breaches string }{
	{"each scheduled function version has exactly one request", `
		select format('function %s version %s has %s requests', f.id, f.seq, count(r.id))
		from ledger.universal_registry f
		left join ledger.universal_registry r on r.entity_type = 'request' and r.seq = 0
			and r.metadata -> 'engine' -> 'cause' = jsonb_build_array(f.id, f.seq)
			and r.metadata -> 'engine' ->> 'kind' = 'request'
		where f.entity_type = 'function' and f.status = 'scheduled'
		group by f.id, f.seq having count(r.id) <> 1`},
	{"each request has exactly one terminal version, its last", `
		select format('request %s: %s', id, string_agg(status, ' ' order by seq))
		from ledger.universal_registry where entity_type = 'request'
		group by id
		having count(*) filter (where status in ('complete', 'error', 'dead', 'cancelled')) <> 1
			or (array_agg(status order by seq desc))[1] not in ('complete', 'error', 'dead', 'cancelled')`},
	{"executions and terminal versions complete or error are one to one, in one transaction; of what was " +
		"cancelled while it ran there is one, too", `
		select format('request %s %s in transaction %s, execution %s in %s', r.id, r.status, r.xact, e.id, e.xact)
		from (select * from ledger.universal_registry
			where entity_type = 'request' and (status in ('complete', 'error', 'cancelled')
				or status = 'dead' and did = 'failed')) r
		full join (select * from ledger.universal_registry
			where entity_type in ('execution', 'provider_execution')) e
			on e.related_to[1] = r.id and e.xact = r.xact and e.attempt = r.attempt
				and e.status = case r.status when 'complete' then 'complete' else 'error' end
		where r.id is null or e.id is null and r.status <> 'cancelled'`},
	{"a request has at most one execution", `
		select format('request %s has %s executions', related_to[1], count(*))
		from ledger.universal_registry where entity_type in ('execution', 'provider_execution')
		group by related_to[1] having count(*) > 1`},
	{"what a run emits is there once, in its transaction", `
		select format('execution %s %s emitted %s notes', e.id, e.status, count(n.id))
		from ledger.universal_registry e
		left join ledger.universal_registry n on n.entity_type = 'note' and n.trace_id = e.trace_id
		where e.entity_type = 'execution'
		group by e.id, e.status, e.xact, e.output
		having count(n.id) <> case when e.output ->> 'emits' is null then 0 else (e.output ->> 'emits')::int end
			or count(n.id) <> count(n.id) filter (where n.xact = e.xact)`},
	{"versions are gapless and of one tenant, owner and type", `
		select format('span %s has %s versions up to %s', id, count(*), max(seq))
		from ledger.universal_registry
		group by id
		having count(*) <> max(seq) + 1 or count(distinct (tenant_id, owner_id, entity_type)) <> 1`},
	{"each version follows the one before by hash", `
		select format('span %s version %s: prev_hash %s after curr_hash %s', n.id, n.seq, n.prev_hash, p.curr_hash)
		from ledger.universal_registry n
		join ledger.universal_registry p on p.id = n.id and p.seq = n.seq - 1
		where n.prev_hash is distinct from p.curr_hash`},
	{"requests die only after three attempts", `
		select format('request %s is dead after attempts %s', id, array_agg(attempt order by seq))
		from ledger.universal_registry where entity_type = 'request'
		group by id
		having bool_or(status = 'dead') and max(attempt) filter (where status = 'running') is distinct from 3`},
	{"no span but the report of that stands deeper than sixteen causes", `
		select format('%s %s has depth %s', entity_type, id, metadata -> 'engine' ->> 'depth')
		from ledger.universal_registry
		where (metadata -> 'engine' ->> 'depth')::int > 16 + (entity_type = 'policy_error')::int`},
	{"nothing went wrong inside", `
		select format('incident %s: %s', id, error) from ledger.universal_registry where entity_type = 'incident'`},
}

// judge holds the ledger against every law.
func judge(t *testing.T, s *system) {
	t.Helper()
	for _, law := range laws {
		rows, err := s.owner.Query(t.Context(), law.breaches)
		if err != nil {
			t.Fatalf("%s: %v", law.name, err)
		}
		breaches, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", law.name, err)
		}
		if len(breaches) > 0 {
			const most = 10
			t.Errorf("broken %d times: %s\n  %s", len(breaches), law.name,
				strings.Join(breaches[:min(most, len(breaches))], "\n  "))
		}
	}
	checkHashes(t, s)
}
