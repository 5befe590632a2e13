-- The rows of the reference implementation come along. In its database, as who owns it:
--
--     alter schema ledger rename to ledger_reference;
--     logline migrate
--     psql -v ON_ERROR_STOP=1 -f scripts/deploy/from_reference.sql "$DATABASE_URL"
--     logline bootstrap
--
-- Everybody who had its API could state owner, tenant, type and visibility, so nothing gets power here by what a
-- row says of itself:
--
--   * what governs or keeps the books of the engine stays behind (manifest, key, policy_cursor, epoch, checkpoint),
--     as do reserved ids and those that only the engine derives (version 8); bootstrap brings what is of today;
--   * owner or tenant `system` becomes `unknown`, and private, and of such no function, policy, provider or prompt
--     is in force: `draft`;
--   * policies of all owners come as `draft`: who has read his puts it in force by its next version;
--   * `public` becomes `tenant`: to show something to everybody is a governor's right now;
--   * what the engine writes (execution, incident …) is history: its metadata stand in metadata.reference.metadata,
--     where nothing looks. Of everything else they do where the engine reads a key of theirs (engine, run,
--     schedule), which is left out, or where they have a key reference.
--
-- The rest is taken with its id and its time. Versions are counted from 0 without gaps; owner, tenant and type are
-- those of the first version; who had no owner or tenant gets `unknown`. Hashes and signatures are of another form
-- (their hash left out what is nested) and stand in metadata.reference, with what was changed. Nothing of it runs by
-- itself: what was `scheduled` there has run there, or never will.
\set ON_ERROR_STOP on
begin;
select ledger.import_begin() \g /dev/null

with taken as (
    select
        r.*,
        row_number() over version - 1 as version,
        first_value(r.entity_type) over version as first_type,
        first_value(r.owner_id) over version as first_owner,
        first_value(r.tenant_id) over version as first_tenant
    from ledger_reference.universal_registry as r
    where r.id::text not like '00000000-0000-4000-8000-%'
        and substr(r.id::text, 15, 1) <> '8'
        and r.id not in ('00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        and r.entity_type not in ('manifest', 'key', 'policy_cursor', 'epoch', 'checkpoint')
    window version as (partition by r.id order by r.seq rows between unbounded preceding and unbounded following)
), marked as (
    select
        t.*,
        coalesce('system' in (t.first_owner, t.first_tenant), false) as claims_system,
        t.first_type in (
            'execution', 'boot_event', 'policy_error', 'policy_violation', 'incident', 'metric', 'status_patch',
            'provider_execution'
        ) as is_of_engine,
        case when jsonb_typeof(t.metadata) = 'object' then t.metadata else '{}' end as stated
    from taken as t
), judged as (
    select
        m.*,
        case
            when m.claims_system or m.first_owner is null or m.first_tenant is null then 'private'
            when m.visibility = 'public' then 'tenant'
            else coalesce(m.visibility, 'private')
        end as next_visibility,
        case
            when m.status is distinct from 'archived'
                and (
                    m.first_type = 'policy'
                    or m.claims_system
                    and (m.first_type in ('function', 'provider') or starts_with(m.first_type, 'prompt_'))
                )
                then 'draft'
            else m.status
        end as next_status
    from marked as m
)
insert into ledger.universal_registry (
    id, seq, entity_type, who, did, this, at, accepted_at, xact, parent_id, related_to, trace_id, owner_id, tenant_id,
    visibility, status, is_deleted, name, description, code, language, runtime, input, output, error, duration_ms,
    metadata
)
select
    j.id,
    j.version,
    j.first_type,
    coalesce(j.who, 'client:unknown'),
    j.did,
    j.this,
    j.at,
    least(j.at, now()),
    pg_current_xact_id(),
    j.parent_id,
    j.related_to,
    j.trace_id,
    case when j.claims_system then 'unknown' else coalesce(j.first_owner, 'unknown') end,
    case when j.claims_system then 'unknown' else coalesce(j.first_tenant, 'unknown') end,
    j.next_visibility,
    j.next_status,
    coalesce(j.is_deleted, false),
    j.name,
    j.description,
    j.code,
    j.language,
    j.runtime,
    j.input,
    j.output,
    j.error,
    j.duration_ms,
    case when j.is_of_engine then '{}' else j.stated - '{engine,run,schedule}'::text[] end || jsonb_build_object(
        'reference', jsonb_strip_nulls(jsonb_build_object(
            'seq', j.seq, 'curr_hash', j.curr_hash, 'prev_hash', j.prev_hash, 'signature', j.signature,
            'public_key', j.public_key,
            'owner_id', case when j.claims_system then j.first_owner end,
            'tenant_id', case when j.claims_system then j.first_tenant end,
            'visibility', case when j.next_visibility <> j.visibility then j.visibility end,
            'status', case when j.next_status is distinct from j.status then j.status end
        )) || case
            when j.is_of_engine or j.stated <> j.metadata or j.stated ?| '{engine,run,schedule,reference}'
                then jsonb_build_object('metadata', j.metadata)
            else '{}'
        end
    )
from judged as j;

select
    there.rows as there,
    taken.rows as taken,
    there.rows - taken.rows as left_behind,
    taken.ownerless,
    taken.of_system as claimed_system,
    taken.drafts as no_longer_active,
    taken.narrowed as no_longer_public
from (select count(*) as rows from ledger_reference.universal_registry) as there
cross join (
    select
        count(*) as rows,
        count(*) filter (where owner_id = 'unknown' or tenant_id = 'unknown') as ownerless,
        count(*) filter (
            where 'system' in (metadata #>> '{reference,owner_id}', metadata #>> '{reference,tenant_id}')
        ) as of_system,
        count(*) filter (where metadata #>> '{reference,status}' in ('active', 'scheduled')) as drafts,
        count(*) filter (where metadata #>> '{reference,visibility}' = 'public') as narrowed
    from ledger.universal_registry
) as taken;

select ledger.import_end() \g /dev/null
commit;
