-- 80 import: the one door for rows that come with their own times: after a restore, from another ledger.
--
--     select ledger.import_begin();   nobody but the owner appends; rows keep accepted_at and xact
--     copy, insert, pg_restore --data-only: in any order
--     select ledger.import_end();     proves the chains, writes an epoch, closes the door
--
-- The door is one trigger, which is there while it is open, so that ordinary inserts pay nothing for it.
-- A failed import_end names the faults and leaves the door open. To undo an import, do all three steps
-- in one transaction; once committed, rows stay: then start again with a fresh database.
-- Nothing that was in the ledger when the door closed is ever routed by the sidecar.

create or replace function ledger_private.refuse_while_importing()
returns trigger
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select
        from pg_catalog.pg_class as c
        where c.oid = tg_relid
            and pg_catalog.pg_has_role(current_user, c.relowner, 'usage')
            -- Not a client in a definer function of the owner's.
            and pg_catalog.pg_has_role(
                coalesce(nullif(current_setting('role', true), 'none'), session_user), c.relowner, 'usage'
            )
    ) then
        return new;
    end if;
    raise exception using
        errcode = 'LL018',
        message = 'the ledger is being restored and takes no spans',
        hint = 'Try again later. Its owner ends it with: select ledger.import_end()';
end
$$;

comment on function ledger_private.refuse_while_importing() is
    'Refuses everybody but the owner while the import door is open.';

create or replace function ledger_private.is_importing()
returns boolean
language sql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select
        from pg_catalog.pg_trigger
        where tgrelid = 'ledger.universal_registry'::regclass
            and tgname = 'universal_registry_before_insert_0_import'
    )
$$;

comment on function ledger_private.is_importing() is
    'Whether the import door is open.';

-- A sidecar would run what comes in. Its slot counts while it is held: an idle one brings the rows later,
-- when the epoch is there. Its sessions are those of a login that may be a sidecar; of the owner and of
-- superusers, who have other things to do too, those that say so. What strangers say counts for nothing.
create or replace function ledger_private.refuse_sidecar()
returns void
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_who text := (
        select string_agg(attached.what, ', ' order by attached.what)
        from (
            select 'replication slot ' || slot_name || ' (pid ' || active_pid || ')' as what
            from pg_catalog.pg_replication_slots
            where active
                and database = current_database()
                and slot_name like 'loglineos%'
            union
            select coalesce(nullif(a.application_name, ''), a.usename) || ' (pid ' || a.pid || ')'
            from pg_catalog.pg_stat_activity as a
            join pg_catalog.pg_roles as r on r.oid = a.usesysid
            where a.datname = current_database()
                and a.pid <> pg_backend_pid()
                and pg_has_role(r.oid, 'loglineos_sidecar', 'member')
                and (
                    a.application_name like 'loglineos%'
                    or not r.rolsuper and not pg_has_role(r.oid, (
                        select c.relowner
                        from pg_catalog.pg_class as c
                        where c.oid = 'ledger.universal_registry'::regclass
                    ), 'member')
                )
        ) as attached
    );
begin
    if v_who is not null then
        raise exception using
            errcode = 'LL018',
            message = 'a sidecar is attached: ' || v_who,
            hint = 'Stop it first; start it again when ledger.import_end() has answered.';
    end if;
end
$$;

comment on function ledger_private.refuse_sidecar() is
    'Refuses an import while a sidecar is attached to this database.';

create or replace function ledger.import_begin()
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_trigger name;
begin
    lock table ledger.universal_registry in share row exclusive mode;
    if ledger_private.is_importing() then
        raise exception using
            errcode = 'LL018',
            message = 'the import door is open already: ' || (
                select pg_catalog.obj_description(oid, 'pg_trigger')
                from pg_catalog.pg_trigger
                where tgname = 'universal_registry_before_insert_0_import'
            ),
            hint = 'Load the rows that are missing, then: select ledger.import_end()';
    end if;
    perform ledger_private.refuse_sidecar();

    create trigger universal_registry_before_insert_0_import
        before insert on ledger.universal_registry
        for each row
        execute function ledger_private.refuse_while_importing();
    alter table ledger.universal_registry
        enable always trigger universal_registry_before_insert_0_import;
    execute format(
        'comment on trigger universal_registry_before_insert_0_import on ledger.universal_registry is %L',
        'Import door, open since ' || to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    );
    -- What stamps, fills and looks at the version before. Changes stay refused.
    for v_trigger in
        select tgname
        from pg_catalog.pg_trigger
        where tgrelid = 'ledger.universal_registry'::regclass
            and tgname in (
                'universal_registry_before_insert_1_admit', 'universal_registry_before_insert_2_follow'
            )
    loop
        execute format('alter table ledger.universal_registry disable trigger %I', v_trigger);
    end loop;
    -- COPY into a table whose policies bind is refused, even to an owner whom they let through.
    if pg_catalog.row_security_active('ledger.universal_registry') then
        alter table ledger.universal_registry no force row level security;
    end if;
end
$$;

comment on function ledger.import_begin() is
    'Opens the import door: until ledger.import_end() nobody but the owner appends, and rows keep '
    'accepted_at and xact as given. For the owner, with no sidecar attached.';

create or replace function ledger_private.chain_faults()
returns setof text
language sql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
    with chain as (
        select
            r.id, r.seq, r.owner_id, r.tenant_id, r.entity_type, r.parent_id, r.prev_hash, r.accepted_at,
            lag(r.seq) over versions as before_seq,
            lag(r.owner_id) over versions as before_owner_id,
            lag(r.tenant_id) over versions as before_tenant_id,
            lag(r.entity_type) over versions as before_entity_type,
            lag(r.parent_id) over versions as before_parent_id,
            lag(r.curr_hash) over versions as before_curr_hash
        from ledger.universal_registry as r
        window versions as (partition by r.id order by r.seq)
    ), judged as (
        select
            c.id,
            c.seq,
            case
                when c.before_seq is null and c.seq <> 0
                    then 'has no version 0 before it'
                when c.seq <> c.before_seq + 1
                    then 'follows version ' || c.before_seq
                when c.owner_id <> c.before_owner_id
                    or c.tenant_id <> c.before_tenant_id
                    or c.entity_type <> c.before_entity_type
                    then 'changes tenant_id, owner_id or entity_type'
                when c.entity_type = 'request' and c.parent_id <> c.before_parent_id
                    then 'changes parent_id of a request'
                when c.prev_hash is distinct from c.before_curr_hash
                    then 'prev_hash is not the curr_hash of the version before'
                when c.accepted_at > clock_timestamp()
                    then 'accepted_at ' || c.accepted_at || ' is still to come'
            end as fault
        from chain as c
    )
    select 'span ' || j.id || ', version ' || j.seq || ': ' || j.fault
    from judged as j
    where j.fault is not null
$$;

comment on function ledger_private.chain_faults() is
    'What is wrong with the chains of versions, one line a fault; nothing in a sound ledger. Reads it all.';

-- Not at the door: a dump brings rows to a table that has no triggers yet, and what older rules let in must
-- come back, if its owner says so.
create or replace function ledger_private.shape_faults()
returns setof text
language sql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
    select 'span ' || judged.id || ', version ' || judged.seq || ': column ' || judged.fault
    from (
        select r.id, r.seq, ledger_private.shape_fault(r) as fault
        from ledger.universal_registry as r
        offset 0
    ) as judged
    where judged.fault is not null
$$;

comment on function ledger_private.shape_faults() is
    'Which rows break the sizes and formats of today, one line a row. Reads it all.';

create or replace function ledger.import_end(p_keep_malformed boolean default false)
returns jsonb
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_faults text[];
    v_malformed bigint := 0;
    v_trigger name;
    v_epoch jsonb;
begin
    lock table ledger.universal_registry in share row exclusive mode;
    if not ledger_private.is_importing() then
        raise exception using
            errcode = 'LL018',
            message = 'the import door is not open',
            hint = 'Open it first: select ledger.import_begin()';
    end if;
    perform ledger_private.refuse_sidecar();

    v_faults := array(select f from ledger_private.chain_faults() as f limit 20);
    if cardinality(v_faults) > 0 then
        raise exception using
            errcode = 'LL018',
            message = 'the rows are no sound ledger: ' || v_faults[1],
            detail = array_to_string(v_faults, e'\n'),
            hint = 'The door stays open. Load what is missing, or wait for a time that is still to come (this '
                'server''s clock may be behind), and call it again; or start with a fresh '
                'database: rows that are in can not be removed.';
    end if;

    if p_keep_malformed then
        v_malformed := (select count(*) from ledger_private.shape_faults());
    else
        v_faults := array(select f from ledger_private.shape_faults() as f limit 20);
    end if;
    if cardinality(v_faults) > 0 then
        raise exception using
            errcode = 'LL018',
            message = 'there are malformed rows: ' || v_faults[1],
            detail = array_to_string(v_faults, e'\n'),
            hint = 'The door stays open. If older rules have let them in, keep them: '
                'select ledger.import_end(true). Else start with a fresh database.';
    end if;

    v_epoch := (
        select jsonb_build_object(
            'rows', count(*),
            'malformed', v_malformed,
            'ids', count(*) filter (where r.seq = 0),
            'max_xact', max(r.xact::text::numeric),
            'accepted_until', to_jsonb(max(r.accepted_at)),
            'opened', (
                select pg_catalog.obj_description(t.oid, 'pg_trigger')
                from pg_catalog.pg_trigger as t
                where t.tgrelid = 'ledger.universal_registry'::regclass
                    and t.tgname = 'universal_registry_before_insert_0_import'
            )
        )
        from ledger.universal_registry as r
    );
    if has_function_privilege('pg_catalog.pg_control_system()', 'execute') then
        v_epoch := v_epoch || jsonb_build_object(
            'system_identifier', (select system_identifier::text from pg_catalog.pg_control_system())
        );
    end if;
    -- In a subtransaction of its own: its writer (xmin) is after that of every row which is in already, and before
    -- that of every later one, whatever the clock says (sidecar/ledger/epoch.go).
    begin
        insert into ledger.universal_registry (
            id, seq, entity_type, who, did, this, at, accepted_at, xact,
            owner_id, tenant_id, visibility, is_deleted, metadata
        )
        values (
            ledger.uuid7(), 0, 'epoch', 'system:import', 'imported', 'ledger', now(), statement_timestamp(),
            pg_catalog.pg_current_xact_id(), 'system', 'system', 'private', false, v_epoch
        );
    exception when others then
        raise;
    end;

    drop trigger universal_registry_before_insert_0_import on ledger.universal_registry;
    -- All of them: pg_restore --disable-triggers leaves them enabled, but no longer always.
    for v_trigger in
        select t.tgname
        from pg_catalog.pg_trigger as t
        join pg_catalog.pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = 'ledger.universal_registry'::regclass
            and p.pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
    loop
        execute format('alter table ledger.universal_registry enable always trigger %I', v_trigger);
    end loop;
    if not (
        select relforcerowsecurity
        from pg_catalog.pg_class
        where oid = 'ledger.universal_registry'::regclass
    ) then
        alter table ledger.universal_registry force row level security;
    end if;
    perform ledger_private.mend_owner_policies();
    perform ledger_private.mend_publication();
    perform ledger_private.lock_extension();
    return v_epoch;
end
$$;

comment on function ledger.import_end(boolean) is
    'Closes the import door: proves the chains of all versions and the shape of all rows, writes an epoch '
    'span and returns its metadata. Refuses with the first faults, and the door stays open; with true it '
    'keeps malformed rows and counts them. For the owner.';

-- DROP EXTENSION drops what belongs to the extension, past every guard and without a word. This function
-- belongs to nobody and returns rows of the ledger: so Postgres refuses, and with CASCADE it names it.
create or replace function ledger_private.lock_extension()
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()') is not null
        or not exists (
            select
            from pg_catalog.pg_depend as d
            join pg_catalog.pg_extension as e on e.oid = d.refobjid
            where d.classid = 'pg_catalog.pg_class'::regclass
                and d.objid = 'ledger.universal_registry'::regclass
                and d.deptype = 'e'
                and e.extname = 'loglineos'
        )
    then
        return;
    end if;
    create function ledger_private.drop_extension_destroys_the_ledger()
    returns setof ledger.universal_registry
    language sql
    stable
    security invoker
    set search_path = pg_catalog, pg_temp
    return null::ledger.universal_registry;
    comment on function ledger_private.drop_extension_destroys_the_ledger() is
        'Stands between DROP EXTENSION and the ledger. To destroy the ledger, drop this function first.';
    revoke all on function ledger_private.drop_extension_destroys_the_ledger() from public;
    if exists (
        select
        from pg_catalog.pg_depend
        where classid = 'pg_catalog.pg_proc'::regclass
            and objid = to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()')
            and deptype = 'e'
    ) then
        alter extension loglineos drop function ledger_private.drop_extension_destroys_the_ledger();
    end if;
end
$$;

comment on function ledger_private.lock_extension() is
    'In the extension form: makes what DROP EXTENSION stumbles over, where it is missing.';

-- For the owner alone; of the rest, what the sidecar asks before it starts.
revoke all on function ledger.import_begin(), ledger.import_end(boolean)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
revoke all on function
    ledger_private.refuse_while_importing(), ledger_private.is_importing(),
    ledger_private.refuse_sidecar(), ledger_private.chain_faults(), ledger_private.shape_faults(),
    ledger_private.lock_extension()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.is_importing() to loglineos_sidecar;
