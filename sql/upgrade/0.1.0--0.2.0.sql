-- 0.1.0 to 0.2.0: what the body does not replace by itself. Breaks nothing. Locks the ledger.

-- ledger.has_version goes (60_timeline): it told anybody about anything. What a user has built on it would
-- stop that at the very end, in words that advise to drop his things.
do $dependents$
declare
    v_dependents text := (
        select string_agg(distinct case
            when d.classid = 'pg_catalog.pg_rewrite'::regclass then (
                select 'view ' || r.ev_class::regclass
                from pg_catalog.pg_rewrite as r
                where r.oid = d.objid
            )
            else pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
        end, ', ')
        from pg_catalog.pg_depend as d
        where d.refclassid = 'pg_catalog.pg_proc'::regclass
            and d.refobjid = to_regprocedure('ledger.has_version(uuid,integer)')
            and d.deptype = 'n'
            and not exists (
                select
                from pg_catalog.pg_rewrite as r
                where d.classid = 'pg_catalog.pg_rewrite'::regclass
                    and r.oid = d.objid
                    and r.ev_class = to_regclass('ledger.visible_timeline')
            )
    );
begin
    if v_dependents is not null then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = 'ledger.has_version goes with this version, and is used by: ' || v_dependents,
            hint = 'Build that on ledger.visible_timeline (the newest versions) or ledger.history instead, then '
                'run this again.';
    end if;
end
$dependents$;

-- Everybody who reads or writes waits until this is through, and is then guarded by the new rules. A
-- lock at a time would deadlock with those who hold one and want the next, so it is all or, for a moment,
-- none.
do $lock$
declare
    v_lock_timeout text := current_setting('lock_timeout');
begin
    if to_regclass('ledger.universal_registry') is null then
        return;
    end if;
    -- Run again, it would stamp the rows that are on their way through the import door.
    if exists (
        select
        from pg_catalog.pg_trigger
        where tgrelid = to_regclass('ledger.universal_registry')
            and tgname = 'universal_registry_before_insert_0_import'
    ) then
        raise exception using
            message = 'the ledger is being restored: its import door is open',
            hint = 'End that first: select ledger.import_end()';
    end if;
    for v_attempt in 1..100 loop
        begin
            set local lock_timeout = '300ms';
            execute 'lock table ' || (
                -- A view may be gone (guard_check says so, and to run this again).
                select string_agg(c.oid::regclass::text, ', ' order by c.relkind, c.oid)
                from pg_catalog.pg_class as c
                where c.relnamespace = 'ledger'::regnamespace
                    and c.relname in ('universal_registry', 'visible_timeline', 'history')
            ) || ' in access exclusive mode';
            perform set_config('lock_timeout', v_lock_timeout, true);
            return;
        exception
            when lock_not_available or deadlock_detected then
                perform pg_sleep(random() * 0.2);
        end;
    end loop;
    raise exception using
        message = 'the ledger is in use: no moment to change it was found in 40 seconds',
        detail = 'It is held by process ' || coalesce((
            select string_agg(distinct l.pid::text, ', ')
            from pg_catalog.pg_locks as l
            join pg_catalog.pg_class as c on c.oid = l.relation
            where c.relnamespace = 'ledger'::regnamespace
                and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
                and l.granted
                and l.pid <> pg_backend_pid()
        ), 'none by now') || '.',
        hint = 'End long transactions (select pid, xact_start, query from pg_stat_activity order by '
            'xact_start) and run it again.';
end
$lock$;

-- In the place of universal_registry_parent_owner_idx.
drop index if exists ledger.universal_registry_parent_idx;

-- In the place of universal_registry_open_idx and universal_registry_due_idx.
drop index if exists ledger.universal_registry_open_request_idx;

-- 1_admit does what 3_shape did.
drop trigger if exists universal_registry_before_insert_3_shape on ledger.universal_registry;
drop function if exists ledger.check_shape();
