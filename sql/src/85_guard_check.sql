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
        and t.tgname = v_door;
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
            when 'trigger' then format('drop trigger %I on %s', s.name, substring(s.stands from ' ON ([^ ]+) '))
            when 'policy' then format('drop policy %I on ledger.universal_registry', s.name)
            when 'index' then 'drop index ' || s.name
            when 'function' then 'drop function ' || s.name
            when 'right' then 'revoke ' || regexp_replace(
                regexp_replace(s.name, '^([a-z]+) on column ([^ ]+) of ([^ ]+)', e'\\1 (\\2) on \\3'),
                '^(.*) to (.*?)( with grant option)?$', e'\\1 from \\2'
            )
            else format('alter table ledger.universal_registry drop %s %I', s.kind, s.name)
        end
    from ledger_private.standing_walls() as s
    where not exists (
            select from ledger_private.built_walls() as b where b.kind = s.kind and b.name = s.name
        )
        and s.kind <> 'view'
        and s.name <> v_door
        and not (s.kind = 'index' and s.stands not like 'CREATE UNIQUE %' and s.stands not like '% -- invalid')
        and not (s.kind = 'right' and s.name ~ '^(select on .*|usage on schema ledger) to (?!public$)')
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
        where n.nspname in ('ledger', 'ledger_private')
        union all
        select b.kind || ' ' || b.name, c.relowner
        from ledger_private.built_walls() as b
        join pg_catalog.pg_class as c on c.oid = to_regclass(b.name)
        where b.kind = 'view'
    ) as o (wall, owner)
    where o.owner <> v_owner;

    -- A view that reads the ledger with its owner's rights.
    return query
    select distinct 'view ' || c.oid::regclass, 'shows the ledger with the rights of ' || c.relowner::regrole,
        case c.relkind
            when 'v' then format('alter view %s set (security_invoker = true)', c.oid::regclass)
            else 'drop materialized view ' || c.oid::regclass
        end
    from pg_catalog.pg_depend as d
    join pg_catalog.pg_rewrite as r on r.oid = d.objid and d.classid = 'pg_catalog.pg_rewrite'::regclass
    join pg_catalog.pg_class as c on c.oid = r.ev_class
    cross join unnest(array['anon', 'authenticated', 'public']) as reader (name)
    where d.refclassid = 'pg_catalog.pg_class'::regclass
        and d.refobjid in (v_table, to_regclass('ledger.visible_timeline'), to_regclass('ledger.history'))
        and c.relkind in ('v', 'm')
        and not coalesce(c.reloptions && array['security_invoker=true', 'security_invoker=on'], false)
        and has_table_privilege(reader.name, c.oid, 'select');

    -- Who may be what.
    return query
    select 'role ' || r.rolname, 'is ' || t.problem, format('alter role %I ', r.rolname) || t.mend
    from pg_catalog.pg_roles as r
    cross join lateral (values
        (r.rolsuper, 'a superuser', 'nosuperuser'),
        (r.rolbypassrls and r.rolname <> 'service_role', 'not bound by row level security', 'nobypassrls'),
        (r.rolcreaterole, 'a maker of roles', 'nocreaterole'),
        (r.rolreplication and r.rolname <> 'loglineos_sidecar', 'a reader of the WAL', 'noreplication')
    ) as t (falls, problem, mend)
    where r.rolname in ('anon', 'authenticated', 'service_role', 'loglineos_sidecar', 'loglineos_kernel')
        and t.falls
    union all
    select 'role ' || r.rolname, 'is a member of ' || g.rolname,
        case when exists (
            select from pg_catalog.pg_auth_members as m where m.member = r.oid and m.roleid = g.oid
        ) then format('revoke %I from %I', g.rolname, r.rolname)
            else 'Revoke it from the role through which this one is a member.' end
    from pg_catalog.pg_roles as r
    join pg_catalog.pg_roles as g on g.oid <> r.oid and (
        g.oid = v_owner
        or g.rolname in ('loglineos_sidecar', 'pg_write_all_data', 'pg_execute_server_program',
            'pg_write_server_files')
    )
    where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'loglineos_sidecar',
            'loglineos_kernel')
        and not r.rolsuper
        and pg_has_role(r.oid, g.oid, 'member')
    union all
    select 'default privileges', format('%s gives new objects of schema %s to others', d.defaclrole::regrole,
            d.defaclnamespace::regnamespace),
        format('alter default privileges for role %s in schema %s revoke all on %s from %s',
            d.defaclrole::regrole, d.defaclnamespace::regnamespace,
            case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions'
                else 'types' end,
            case a.grantee when 0 then 'public' else a.grantee::regrole::text end)
    from pg_catalog.pg_default_acl as d
    cross join lateral aclexplode(d.defaclacl) as a
    where d.defaclnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_private'))
        and a.grantee <> d.defaclrole
    group by d.defaclrole, d.defaclnamespace, d.defaclobjtype, a.grantee;

    -- Doors. The lock is a function that is there in the extension form only (80_import).
    return query
    select 'extension loglineos', 'drop extension would destroy the ledger without a word',
        'select ledger_private.lock_extension()'
    from pg_catalog.pg_depend as d
    join pg_catalog.pg_extension as e on e.oid = d.refobjid and e.extname = 'loglineos'
    where d.classid = 'pg_catalog.pg_class'::regclass
        and d.objid = v_table
        and d.deptype = 'e'
        and to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()') is null;

    -- Rows. Each was inserted by the transaction that its xact names, so two of different xact can not have
    -- one xmin, unless something has written all rows anew (VACUUM FULL and CLUSTER keep the xmin). An honest
    -- restore does; it ends with an epoch span, and its rows may name transactions that are yet to come.
    -- Looked at: the oldest and the newest since.
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
