package app

import "strings"

// What compliance asks the ledger. Each that counts, counts what must not be.
const (
	recentRunsSQL = `select * from ledger.universal_registry where entity_type = 'execution' and metadata ? 'run'
		order by xact desc limit 200`

	// runs that name a version of a function or a kernel which the ledger has not, or has with another hash
	unknownVersionsSQL = `select count(*) from (` + recentRunsSQL + `) e
		where not exists (
				select from ledger.universal_registry f
				where f.id = (e.metadata #>> '{run,function,id}')::uuid
					and f.seq = (e.metadata #>> '{run,function,seq}')::int
					and f.curr_hash is not distinct from e.metadata #>> '{run,function,curr_hash}'
			)
			or exists (
				select from jsonb_array_elements(e.metadata #> '{run,kernels}') k
				where not exists (
					select from ledger.universal_registry f
					where f.curr_hash = k ->> 'curr_hash' and f.seq = (k ->> 'seq')::int
						and f.tenant_id = 'system' and f.entity_type = 'function'
				)
			)`

	// runs that lead to no request of the same owner and tenant
	strayRunsSQL = `select count(*) from (` + recentRunsSQL + `) e
		where not exists (
			select from ledger.universal_registry q
			where q.id = e.related_to[1] and q.entity_type = 'request'
				and q.owner_id = e.owner_id and q.tenant_id = e.tenant_id
		)`

	newestBootSQL = `select max(accepted_at) from ledger.universal_registry
		where tenant_id = 'system' and entity_type = 'boot_event'`

	tablesSQL = `select string_agg(relname, ', ' order by relname) from pg_class
		where relnamespace = 'ledger'::regnamespace and relkind in ('r', 'p', 'm', 'f')`

	columnsSQL = `select count(*) from pg_attribute
		where attrelid = 'ledger.universal_registry'::regclass and attnum > 0 and not attisdropped`

	systemTypesSQL = `select count(distinct entity_type) from ledger.universal_registry
		where tenant_id = 'system' and entity_type in ('manifest', 'function', 'policy')`

	gapsSQL = `select count(*) from (
			select id, seq from ledger.universal_registry order by xact desc limit 100000
		) r
		where r.seq > 0 and not exists (
			select from ledger.universal_registry p where p.id = r.id and p.seq = r.seq - 1
		)`

	unchainedSQL = `select count(*) from (
			select id, seq, prev_hash from ledger.universal_registry order by xact desc limit 100000
		) r
		join ledger.universal_registry p on p.id = r.id and p.seq = r.seq - 1
		where r.prev_hash is distinct from p.curr_hash`

	// the next version of a system span, as it stands; ID is put in
	nextVersionSQL = `insert into ledger.universal_registry (id, seq, entity_type, who, this, owner_id,
			tenant_id, visibility, status, name, code, language, metadata)
		select id, seq + 1, entity_type, 'system:check', this, owner_id,
			tenant_id, visibility, 'active', name, code, language, metadata
		from ledger.universal_registry where id = 'ID' order by seq desc limit 1`

	ownManifestSQL = `insert into ledger.universal_registry (entity_type, this, status, metadata)
		values ('manifest', 'logline.check', 'active', '{}')`
)

// flat is a statement on one line, as a report shows it.
func flat(statement string) string { return strings.Join(strings.Fields(statement), " ") }
