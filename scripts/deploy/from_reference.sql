-- The rows of the reference implementation come along. In its database, as who owns it:
--
--     alter schema ledger rename to ledger_reference;
--     logline migrate
--     psql -v ON_ERROR_STOP=1 -f scripts/deploy/from_reference.sql "$DATABASE_URL"
--     logline bootstrap
--
-- Kernels, manifest and policies of the system stay behind: bootstrap brings those of today. Everything else is
-- taken with its id and its time. Versions are counted from 0 without gaps; owner, tenant and type are those of
-- the first version; who had no owner or tenant gets `unknown`. Hashes and signatures are of another form (their
-- hash left out what is nested) and stand in metadata.reference. Nothing of it runs by itself: what was
-- `scheduled` there has run there, or never will.
\set ON_ERROR_STOP on
begin;
select ledger.import_begin() \g /dev/null

insert into ledger.universal_registry (
    id, seq, entity_type, who, did, this, at, accepted_at, xact, parent_id, related_to, trace_id, owner_id, tenant_id,
    visibility, status, is_deleted, name, description, code, language, runtime, input, output, error, duration_ms,
    metadata
)
select
    r.id,
    row_number() over version - 1,
    first_value(r.entity_type) over version,
    coalesce(r.who, 'client:unknown'),
    r.did,
    r.this,
    r.at,
    least(r.at, now()),
    pg_current_xact_id(),
    r.parent_id,
    r.related_to,
    r.trace_id,
    coalesce(first_value(r.owner_id) over version, 'unknown'),
    coalesce(first_value(r.tenant_id) over version, 'unknown'),
    case when r.owner_id is null or r.tenant_id is null then 'private' else coalesce(r.visibility, 'private') end,
    r.status,
    coalesce(r.is_deleted, false),
    r.name,
    r.description,
    r.code,
    r.language,
    r.runtime,
    r.input,
    r.output,
    r.error,
    r.duration_ms,
    coalesce(r.metadata, '{}') || jsonb_build_object(
        'reference', jsonb_strip_nulls(jsonb_build_object(
            'seq', r.seq, 'curr_hash', r.curr_hash, 'prev_hash', r.prev_hash, 'signature', r.signature,
            'public_key', r.public_key
        ))
    )
from ledger_reference.universal_registry as r
where r.id::text not like '00000000-0000-4000-8000-%'
    and r.entity_type not in ('manifest', 'policy_cursor')
window version as (partition by r.id order by r.seq rows between unbounded preceding and unbounded following);

select
    (select count(*) from ledger_reference.universal_registry) as there,
    (select count(*) from ledger.universal_registry) as taken,
    (select count(*) from ledger.universal_registry where owner_id = 'unknown' or tenant_id = 'unknown') as ownerless;

select ledger.import_end() \g /dev/null
commit;
