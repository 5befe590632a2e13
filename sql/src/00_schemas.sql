-- 00 schemas: where things live.

create schema if not exists ledger;

comment on schema ledger is
    'The append-only truth of LogLineOS: one table of spans, its views, its accessors. Exposed to clients.';

create schema if not exists engine;

comment on schema engine is
    'Working memory of the sidecar: cursors, leases, counters. Disposable: rebuilt from the ledger. '
    'Never exposed.';

create schema if not exists ledger_private;

comment on schema ledger_private is
    'What views and guards need of the owner''s rights. Never exposed; nothing in it is for clients to '
    'call by name.';

-- Who may create a schema in this database can have been here first. A schema's owner replaces what is in
-- it, and a function of his that is called here has the rights of whoever runs this: so nothing is called
-- before this. What the sidecar keeps in engine is its own.
do $strangers$
declare
    v_thing record;
begin
    select found.what, o.rolname
    into v_thing
    from (
        select 'schema ' || n.nspname as what, n.nspowner as owner
        from pg_catalog.pg_namespace as n
        where n.nspname in ('ledger', 'ledger_private', 'engine')
        union all
        select 'relation ' || c.oid::regclass, c.relowner
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('ledger', 'ledger_private')
        union all
        select 'function ' || p.oid::regprocedure, p.proowner
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname in ('ledger', 'ledger_private')
        union all
        select 'type ' || t.oid::regtype, t.typowner
        from pg_catalog.pg_type as t
        join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
        where n.nspname in ('ledger', 'ledger_private')
    ) as found
    join pg_catalog.pg_roles as o on o.oid = found.owner
    join pg_catalog.pg_roles as me on me.rolname = current_user
    where not o.rolsuper
        and o.oid <> me.oid
        and (me.rolsuper or not pg_catalog.pg_has_role(o.oid, 'usage'))
    limit 1;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = v_thing.what || ' is there already and belongs to ' || v_thing.rolname,
            hint = format('If %I is the owner of this ledger, run it as %I (set role). If not, nothing of '
                'that role''s may be in the schemas ledger, ledger_private and engine: look what it is, '
                'and drop it.', v_thing.rolname, v_thing.rolname);
    end if;
end
$strangers$;

-- Nothing in here is for everybody. What a role gets, it gets by name in 50_access.
revoke all on schema ledger from public;
revoke all on schema ledger_private from public;
revoke all on schema engine from public;
