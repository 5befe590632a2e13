-- 90 publication: the doorbell. Inserts only; the columns that routing needs and no bodies.
--
-- A publication is never a member of an extension: it survives `drop extension`, without the table.
-- So it is made or mended, whichever is needed.

do $publication$
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
end
$publication$;

comment on publication loglineos is
    'Insert-only stream of new spans for the sidecar: a doorbell, not the queue.';
