-- 54 engine: the schema engine anew, where somebody has dropped it. Nothing is lost with it: the sidecar makes
-- its tables again and reads the ledger.

-- Definer: the sidecar may not create schemas, and one of its own making would be no wall of the ledger's
-- (85_guard_check asks who owns it). And only the owner may hand over what is his.
create or replace function ledger_private.make_engine()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner text;
    v_table record;
begin
    -- Every sidecar that misses its tables calls this at once; of two that grant, one would fail.
    perform pg_advisory_xact_lock(hashtextextended('ledger_private.make_engine', 0));
    select n.nspowner::regrole::text
    into v_owner
    from pg_catalog.pg_namespace as n
    where n.nspname = 'engine';
    if v_owner is null then
        create schema engine;
        comment on schema engine is
            'Working memory of the sidecar: cursors, leases, counters. Disposable: rebuilt from the ledger. '
            'Never exposed.';
        revoke all on schema engine from public;
    elsif v_owner <> quote_ident(current_user) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'schema engine belongs to ' || v_owner || ', not to the owner of the ledger',
            hint = format('Look what it is. If nobody needs it: drop schema engine cascade. Else: alter '
                'schema engine owner to %I', current_user);
    end if;
    if not (
        has_schema_privilege('loglineos_sidecar', 'engine', 'usage')
        and has_schema_privilege('loglineos_sidecar', 'engine', 'create')
    ) then
        grant usage, create on schema engine to loglineos_sidecar;
    end if;
    -- pg_restore --no-owner makes the sidecar's tables the owner's, and no sidecar could use them.
    for v_table in
        select c.oid::regclass::text as name
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'engine'
            and c.relkind = 'r'
            and c.relowner = quote_ident(current_user)::regrole
    loop
        execute 'alter table ' || v_table.name || ' owner to loglineos_sidecar';
    end loop;
end
$$;

comment on function ledger_private.make_engine() is
    'Makes the schema engine and its grants, whichever is gone, and gives its tables to the sidecar where a '
    'restore made them the owner''s. For the sidecar, which calls it where one of its tables is missing. It '
    'refuses a schema of another owner.';

revoke all on function ledger_private.make_engine()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.make_engine() to loglineos_sidecar;
