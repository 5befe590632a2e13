-- 90 publication: the doorbell. Inserts only; the columns that routing needs and no bodies.
--
-- A publication is never a member of an extension: it survives `drop extension`, without the table.
-- So it is made or mended, whichever is needed.

create or replace function ledger_private.mend_publication()
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns constant text :=
        'id, seq, entity_type, status, owner_id, tenant_id, visibility, is_deleted, parent_id, at,'
        ' accepted_at, scheduled_at, trace_id, xact, curr_hash, prev_hash';
begin
    if not exists (select from pg_catalog.pg_publication where pubname = 'loglineos') then
        execute format(
            'create publication loglineos for table ledger.universal_registry (%s)'
            ' with (publish = ''insert'')',
            v_columns
        );
    elsif not exists (
        select
        from pg_catalog.pg_publication_tables
        where pubname = 'loglineos'
            and schemaname = 'ledger'
            and tablename = 'universal_registry'
    ) then
        execute format(
            'alter publication loglineos add table ledger.universal_registry (%s)',
            v_columns
        );
    end if;
    comment on publication loglineos is
        'Insert-only stream of new spans for the sidecar: a doorbell, not the queue.';
end
$$;

comment on function ledger_private.mend_publication() is
    'Makes the publication loglineos, or publishes the ledger in it, whichever is needed. For the owner.';

revoke all on function ledger_private.mend_publication()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- A dump that is being restored brings the publication itself, without the table where that is an
-- extension's; ledger.import_end() mends it.
do $publication$
begin
    if current_setting('loglineos.restoring', true) is distinct from 'on' then
        perform ledger_private.mend_publication();
    end if;
end
$publication$;
