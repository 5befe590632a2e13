-- 85 guard check: which walls do not stand?
--
-- The owner of the ledger, or a superuser, can take every wall down. What they do to the catalog is found
-- here: what stands (83) is compared with what was built (84), bodies by their fingerprints, which
-- scripts/sqlbuild fills in; and what must not be is looked for. Who replaces these functions too is found by
-- the sidecar alone, who writes the catalog by hand by nobody: docs/threats.md.

create or replace function ledger_private.fingerprints()
returns table (name text, digest text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    values
@fingerprints@;
end
$$;

comment on function ledger_private.fingerprints() is
    'SHA-256 of the body of every function of the ledger but this one, as scripts/sqlbuild read it.';

create or replace function ledger.guard_check()
returns table (wall text, problem text, mend text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
set standard_conforming_strings = on
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
    v_table constant oid := to_regclass('ledger.universal_registry');
    v_owner oid;
    v_epoch record;
    v_door constant text := 'universal_registry_before_insert_0_import';
    v_again constant text := 'As the owner, run this version''s migration again: logline migrate --again, or '
        'psql -v ON_ERROR_STOP=1 -1 -f @stamp@_loglineos_@version_@.sql (in supabase/migrations).';
begin
    select c.relowner into v_owner from pg_catalog.pg_class as c where c.oid = v_table and c.relkind = 'r';
    if v_owner is null then
        return query values (
            'table ledger.universal_registry', 'is not there, or no ordinary table',
            'Rename the ledger back, or restore it from a backup.'
        );
        return;
    end if;

    -- The import door comes first and alone: it takes other walls down, and its end puts them up again.
    return query
    select 'trigger ' || t.tgname, 'is the import door: rows come in as they are, and only the owner appends',
        'select ledger.import_end()'
    from pg_catalog.pg_trigger as t
    where t.tgrelid = v_table
        and t.tgname = v_door
        and t.tgfoid = to_regprocedure('ledger_private.refuse_while_importing()');
    if found then
        return;
    end if;

    -- The table itself.
    return query
    select 'table ledger.universal_registry', t.problem, 'alter table ledger.universal_registry ' || t.mend
    from pg_catalog.pg_class as c
    cross join lateral (values
        (c.relpersistence <> 'p', 'is not written to the WAL: a crash empties it', 'set logged'),
        (not c.relrowsecurity, 'row level security is off', 'enable row level security'),
        (not c.relforcerowsecurity, 'row level security does not bind its owner', 'force row level security')
    ) as t (falls, problem, mend)
    where c.oid = v_table and t.falls
    union all
    select 'table ledger.universal_registry', 'shows rows of its child ' || i.inhrelid::regclass,
        format('alter table %s no inherit %s', i.inhrelid::regclass, i.inhparent::regclass)
    from pg_catalog.pg_inherits as i
    where i.inhparent = v_table
    union all
    select 'table ledger.universal_registry', 'shows its rows in its parent ' || i.inhparent::regclass,
        case when c.relispartition
            then format('alter table %s detach partition %s', i.inhparent::regclass, i.inhrelid::regclass)
            else format('alter table %s no inherit %s', i.inhrelid::regclass, i.inhparent::regclass)
        end
    from pg_catalog.pg_inherits as i
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    where i.inhrelid = v_table
    union all
    select 'rule ' || r.rulename, 'rewrites what is asked of ' || r.ev_class::regclass,
        format('drop rule %I on %s', r.rulename, r.ev_class::regclass)
    from pg_catalog.pg_rewrite as r
    join pg_catalog.pg_class as c on c.oid = r.ev_class
    where (r.ev_class = v_table or c.relnamespace = to_regnamespace('ledger'))
        and r.rulename <> '_RETURN';

    -- What was built and does not stand as it was. A text that came through Windows has other ends of lines.
    return query
    select b.kind || ' ' || b.name,
        case when s.name is null then 'is not there' else 'is not as it was built, but ' || s.stands end,
        case b.kind
            when 'trigger' then built.statement
            when 'policy' then case when s.name is not null
                then format('drop policy %I on ledger.universal_registry; ', b.name) else '' end
                || built.statement
            when 'index' then case when s.name is not null then format('drop index %s; ', b.name) else '' end
                || built.statement
            when 'constraint' then case when s.name is not null
                then format('alter table ledger.universal_registry drop constraint %I; ', b.name) else '' end
                || built.statement
            when 'publication' then case when s.name is not null then 'drop publication loglineos; ' else '' end
                || built.statement
            when 'column' then 'Make the column again as it was built: ' || built.statement || '.'
            else v_again
        end
    from ledger_private.built_walls() as b
    cross join lateral (select replace(b.stands, '%owner%', v_owner::regrole::text)) as built (statement)
    left join ledger_private.standing_walls() as s on s.kind = b.kind and s.name = b.name
    where b.kind <> 'right'
        and s.stands is distinct from replace(b.stands, chr(13), '');

    -- What stands and was not built. A view of the user's own has its own section; an index that refuses no
    -- row, and a right to read as far as the policies let, hurt nobody.
    return query
    select s.kind || ' ' || s.name, 'is none of the ledger''s',
        case s.kind
            when 'trigger' then format('drop trigger %I on %s', s.name,
                substring(s.stands from '; alter table (.*) enable '))
            when 'policy' then format('drop policy %I on ledger.universal_registry', s.name)
            when 'index' then 'drop index ' || s.name
            when 'function' then 'drop routine ' || s.name
            when 'right' then s.stands
            else format('alter table ledger.universal_registry drop %s %I', s.kind, s.name)
        end
    from ledger_private.standing_walls() as s
    where not exists (
            select from ledger_private.built_walls() as b where b.kind = s.kind and b.name = s.name
        )
        and s.kind <> 'view'
        and not (s.kind = 'index' and s.stands not like 'CREATE UNIQUE %' and s.stands not like '% -- invalid')
        and not (s.kind = 'right' and s.name ~ '^(select on .*|usage on schema ledger) to (?!public$)'
            and s.name !~ ' with grant option$')
        and not (s.kind = 'right' and s.name like '% on function %' and not exists (
            select from ledger_private.built_walls() as b
            where b.kind = 'function' and s.name like '% on function ' || b.name || ' to %'
        ));

    -- Bodies.
    return query
    select 'function ' || b.name, 'its body is not the one that was built', v_again
    from ledger_private.built_walls() as b
    join pg_catalog.pg_proc as p on p.oid = to_regprocedure(b.name)
    where b.kind = 'function'
        and p.prosqlbody is null
        and b.name <> 'ledger_private.fingerprints()'
        and not exists (
            select
            from ledger_private.fingerprints() as f
            where f.name = split_part(b.name, '(', 1)
                and f.digest = encode(sha256(convert_to(replace(p.prosrc, chr(13), ''), 'UTF8')), 'hex')
        );

    -- Who owns a part of the ledger may replace it.
    return query
    select o.wall, 'is owned by ' || o.owner::regrole,
        format('alter %s owner to %s', o.wall, v_owner::regrole)
    from (
        select 'function ' || p.oid::regprocedure, p.proowner
        from pg_catalog.pg_proc as p
        where p.pronamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_private'))
        union all
        select 'schema ' || n.nspname, n.nspowner
        from pg_catalog.pg_namespace as n
        where n.nspname in ('ledger', 'ledger_private', 'engine')
        union all
        select b.kind || ' ' || b.name, c.relowner
        from ledger_private.built_walls() as b
        join pg_catalog.pg_class as c on c.oid = to_regclass(b.name)
        where b.kind = 'view'
    ) as o (wall, owner)
    where o.owner <> v_owner;

    return query select * from ledger_private.way_faults(v_table);
    return query select * from ledger_private.role_faults(v_owner);

    -- The extension form (80_import). A dump asks the extension for its tables; the lock holds as long as it
    -- is no member, and needs the table's type.
    return query
    select 'extension loglineos', t.problem, t.mend
    from pg_catalog.pg_extension as e
    cross join lateral (
        select to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()')::oid as lock,
            exists (
                select
                from pg_catalog.pg_depend as d
                where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = v_table
                    and d.refobjid = e.oid and d.deptype = 'e'
            ) as owns
    ) as is_
    cross join lateral (
        select exists (
                select
                from pg_catalog.pg_depend as d
                where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = is_.lock
                    and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
            ) as member,
            exists (
                select
                from pg_catalog.pg_depend as d
                join pg_catalog.pg_type as y on y.oid = d.refobjid and y.typrelid = v_table
                where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = is_.lock
                    and d.refclassid = 'pg_catalog.pg_type'::regclass and d.deptype = 'n'
            ) as holds
    ) as lock
    cross join lateral (values
        (not is_.owns, 'has lost its table', 'alter extension loglineos add table ledger.universal_registry'),
        (is_.owns and is_.lock is null, 'drop extension would destroy the ledger without a word',
            'select ledger_private.lock_extension()'),
        (is_.owns and lock.member, 'drop extension would destroy the ledger without a word',
            'alter extension loglineos drop function ledger_private.drop_extension_destroys_the_ledger()'),
        (is_.owns and is_.lock is not null and not lock.member and not lock.holds,
            'drop extension would destroy the ledger without a word',
            'drop function ledger_private.drop_extension_destroys_the_ledger(); '
            'select ledger_private.lock_extension()'),
        (
            is_.owns and not exists (
                select
                from unnest(e.extconfig, e.extcondition) as c (relation, condition)
                where c.relation = v_table and coalesce(c.condition, '') = ''
            ),
            'a dump would leave out rows of the ledger',
            format('update pg_catalog.pg_extension set extconfig = array[%s], extcondition = array[''''] '
                'where extname = ''loglineos''', v_table)
        )
    ) as t (falls, problem, mend)
    where e.extname = 'loglineos'
        and t.falls;

    -- Rows. Each was inserted by the transaction that its xact names, so two of different xact can not have
    -- one xmin, unless something has written all rows anew (VACUUM FULL and CLUSTER keep the xmin). An honest
    -- restore does; it ends with an epoch span, and its rows may name transactions that are yet to come.
    -- Looked at: the oldest and the newest since.
    if not has_table_privilege(v_table, 'select') then
        return query values (
            'rows of ledger.universal_registry', 'may not be read by ' || current_user,
            format('grant select on ledger.universal_registry to %I', current_user)
        );
        return;
    end if;
    select max(r.accepted_at) as accepted_at, coalesce(max(r.xact::text::numeric), 0)::text::xid8 as xact
    into v_epoch
    from ledger.universal_registry as r
    where r.tenant_id = 'system'
        and r.entity_type = 'epoch';
    return query
    select 'rows of ledger.universal_registry', 'were appended by many transactions and written by one',
        'After a restore: select ledger.import_begin(); select ledger.import_end(). Else compare the ledger '
        'with a backup: its rows were written anew.'
    from (
        (
            select r.xmin::text as inserter, r.xact, r.accepted_at, 'oldest' as sample
            from ledger.universal_registry as r
            where r.xact >= v_epoch.xact
            order by r.xact
            limit 100
        )
        union all
        (
            select r.xmin::text, r.xact, r.accepted_at, 'newest'
            from ledger.universal_registry as r
            where v_epoch.accepted_at is null
                or r.xact < pg_snapshot_xmax(pg_current_snapshot())
            order by r.xact desc
            limit 100
        )
    ) as w
    where w.accepted_at > coalesce(v_epoch.accepted_at, '-infinity')
    group by w.inserter, w.sample
    having count(distinct w.xact) > 1
    limit 1;
end
$$;

comment on function ledger.guard_check() is
    'One row for every wall of the ledger that does not stand: which, what is wrong, and the statement that '
    'mends it (or, with a full stop, what to do). No row: all stand. The sidecar asks it for readiness.';

revoke all on function ledger.guard_check(), ledger_private.built_walls(), ledger_private.fingerprints()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.guard_check(), ledger_private.built_walls(), ledger_private.fingerprints()
    to service_role, loglineos_sidecar;
