-- 40 append-only: no update, no delete, no truncate, by anybody, on any path.
--
-- The statement triggers refuse also what would touch no row, such as an update that the policies
-- have already emptied, or ON CONFLICT DO UPDATE without a conflict: a silent 0 rows teaches nobody.
-- The row triggers are for the paths that fire no statement triggers: the apply worker of a logical
-- replication. An owner or a superuser can still drop all this; that is detected, not prevented.

create or replace function ledger.refuse_change()
returns trigger
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'LL001',
        message = lower(tg_op) || ' of ' || tg_table_schema || '.' || tg_table_name
            || ' is refused: the ledger is append-only',
        hint = 'Append the next version: the same id, seq plus 1; is_deleted = true to remove.';
end
$$;

comment on function ledger.refuse_change() is
    'Refuses every update, delete and truncate.';

create or replace trigger universal_registry_before_change_row
    before update or delete on ledger.universal_registry
    for each row
    execute function ledger.refuse_change();

comment on trigger universal_registry_before_change_row on ledger.universal_registry is
    'Append-only, also for a replication worker.';

create or replace trigger universal_registry_before_change_statement
    before update or delete or truncate on ledger.universal_registry
    for each statement
    execute function ledger.refuse_change();

comment on trigger universal_registry_before_change_statement on ledger.universal_registry is
    'Append-only, also where no row would be touched.';

alter table ledger.universal_registry
    enable always trigger universal_registry_before_change_row,
    enable always trigger universal_registry_before_change_statement;
