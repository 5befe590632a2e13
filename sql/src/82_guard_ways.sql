-- 82 guard ways: ways to the rows past their policies, and code of others on the way in. A part of
-- guard_check (85).
--
-- Found by what the catalog knows to depend on the ledger. It knows nothing of the body of a function that is
-- a text (all but `return …` and `begin atomic`), nor of copies: docs/threats.md.

create or replace function ledger_private.way_faults(p_table oid)
returns table (wall text, problem text, mend text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schemas constant oid[] := array[to_regnamespace('ledger'), to_regnamespace('ledger_private')];
    v_readers_of_all constant oid[] := array[to_regrole('service_role'), to_regrole('loglineos_sidecar')];
begin
    -- What reads with its owner's rights, and may be used by others.
    return query
    with recursive way as (
        select 'pg_catalog.pg_class'::regclass::oid as catalog, c.oid
        from pg_catalog.pg_class as c
        where c.oid = p_table or c.relnamespace = any(v_schemas) and c.relkind in ('v', 'm')
        union
        select case when r.oid is null then d.classid else 'pg_catalog.pg_class'::regclass end,
            coalesce(r.ev_class, d.objid)
        from way as w
        join pg_catalog.pg_depend as d on d.refclassid = w.catalog and d.refobjid = w.oid
        left join pg_catalog.pg_rewrite as r
            on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
        where d.classid = 'pg_catalog.pg_proc'::regclass
            or r.rulename = '_RETURN'
    )
    select distinct 'view ' || c.oid::regclass, 'shows the ledger with the rights of ' || c.relowner::regrole,
        case c.relkind
            when 'v' then format('alter view %s set (security_invoker = true)', c.oid::regclass)
            else 'revoke all on ' || c.oid::regclass || ' from ' || g.grantees
        end
    from way as w
    join pg_catalog.pg_class as c on w.catalog = 'pg_catalog.pg_class'::regclass and c.oid = w.oid
    cross join lateral (
        select string_agg(distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end, ', ')
        from (
            select c.relacl
            union all
            select t.attacl from pg_catalog.pg_attribute as t where t.attrelid = c.oid
        ) as o (acl)
        cross join lateral aclexplode(o.acl) as a
        where a.grantee <> c.relowner
            and a.grantee <> all(v_readers_of_all)
            and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    ) as g (grantees)
    where c.relkind in ('v', 'm')
        and g.grantees is not null
        and not exists (
            select
            from pg_options_to_table(c.reloptions) as o
            where o.option_name = 'security_invoker'
                and lower(o.option_value) in ('true', 'tru', 'tr', 't', 'on', 'yes', 'ye', 'y', '1')
        )
    union all
    select 'function ' || p.oid::regprocedure, 'reads the ledger with the rights of ' || p.proowner::regrole,
        format('alter routine %s security invoker', p.oid::regprocedure)
    from way as w
    join pg_catalog.pg_proc as p on w.catalog = 'pg_catalog.pg_proc'::regclass and p.oid = w.oid
    where p.prosecdef
        and p.pronamespace <> all(v_schemas)
        and exists (
            select
            from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
            where a.grantee <> p.proowner and a.grantee <> all(v_readers_of_all)
        );

    -- Tables beside the ledger. A rule of theirs acts for their owner, and a foreign key tells who may write
    -- it which ids are taken.
    return query
    select distinct 'rule ' || quote_ident(r.rulename),
        'goes from ' || r.ev_class::regclass || ' to the ledger',
        format('drop rule if exists %I on %s', r.rulename, r.ev_class::regclass)
    from pg_catalog.pg_depend as d
    join pg_catalog.pg_rewrite as r on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
    join pg_catalog.pg_class as t on d.refclassid = 'pg_catalog.pg_class'::regclass and t.oid = d.refobjid
    where (t.oid = p_table or t.relnamespace = any(v_schemas) and t.relkind in ('v', 'm'))
        and r.ev_class <> p_table
        and r.rulename <> '_RETURN'
    union all
    select 'table ' || c.oid::regclass, 'is open to ' || reader.name || ' without row level security',
        case c.relkind
            when 'f' then format('revoke all on %s from %s', c.oid::regclass, reader.name)
            else format('alter table %s enable row level security', c.oid::regclass)
        end
    from pg_catalog.pg_class as c
    cross join unnest(array['public', 'anon', 'authenticated', 'loglineos_kernel']) as reader (name)
    where c.relnamespace = any(v_schemas)
        and c.relkind in ('r', 'p', 'f')
        and c.oid <> p_table
        and not c.relrowsecurity
        and has_any_column_privilege(reader.name, c.oid, 'select, insert, update')
    union all
    select 'constraint ' || quote_ident(f.conname), format('tells who may write %s which ids are taken',
            f.conrelid::regclass),
        format('alter table %s drop constraint %I', f.conrelid::regclass, f.conname)
    from pg_catalog.pg_constraint as f
    where f.contype = 'f'
        and f.confrelid = p_table
        and f.conrelid <> p_table
        and f.conparentid = 0
        and exists (
            select
            from unnest(array['anon', 'authenticated']) as writer (name)
            where has_any_column_privilege(writer.name, f.conrelid, 'insert, update')
        );

    -- Code on the way in: each row goes through the expressions of indexes, and some through those of
    -- statistics. What a superuser has loaded (C) is not looked at.
    return query
    select distinct e.wall, 'runs ' || p.oid::regprocedure, 'drop ' || e.mend
    from (
        select 'pg_catalog.pg_class'::regclass::oid, i.indexrelid, 'index ' || i.indexrelid::regclass,
            'index if exists ' || i.indexrelid::regclass
        from pg_catalog.pg_index as i
        where i.indrelid = p_table
        union all
        select 'pg_catalog.pg_statistic_ext'::regclass, s.oid, format('statistics %I', s.stxname),
            format('statistics %s.%I', s.stxnamespace::regnamespace, s.stxname)
        from pg_catalog.pg_statistic_ext as s
        where s.stxrelid = p_table
    ) as e (catalog, oid, wall, mend)
    join pg_catalog.pg_depend as d on d.classid = e.catalog and d.objid = e.oid
    cross join lateral (
        select d.refobjid as oid where d.refclassid = 'pg_catalog.pg_proc'::regclass
        union all
        select o.oprcode
        from pg_catalog.pg_operator as o
        where d.refclassid = 'pg_catalog.pg_operator'::regclass and o.oid = d.refobjid
        union all
        select m.amproc
        from pg_catalog.pg_opclass as k
        join pg_catalog.pg_amproc as m on m.amprocfamily = k.opcfamily
        where d.refclassid = 'pg_catalog.pg_opclass'::regclass and k.oid = d.refobjid
        union all
        select o.oprcode
        from pg_catalog.pg_opclass as k
        join pg_catalog.pg_amop as m on m.amopfamily = k.opcfamily
        join pg_catalog.pg_operator as o on o.oid = m.amopopr
        where d.refclassid = 'pg_catalog.pg_opclass'::regclass and k.oid = d.refobjid
        union all
        -- A domain's checks run where a value is cast to it.
        select c.refobjid
        from pg_catalog.pg_constraint as k
        join pg_catalog.pg_depend as c
            on c.classid = 'pg_catalog.pg_constraint'::regclass and c.objid = k.oid
            and c.refclassid = 'pg_catalog.pg_proc'::regclass
        where d.refclassid = 'pg_catalog.pg_type'::regclass and k.contypid = d.refobjid
    ) as f
    join pg_catalog.pg_proc as p on p.oid = f.oid
    join pg_catalog.pg_language as l on l.oid = p.prolang
    where l.lanname not in ('internal', 'c')
        and p.pronamespace <> 'pg_catalog'::regnamespace;
end
$$;

comment on function ledger_private.way_faults(oid) is
    'Which objects of others lead to the rows of the ledger past its policies, or run on the way in. For '
    'guard_check.';

revoke all on function ledger_private.way_faults(oid)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.way_faults(oid)
    to service_role, loglineos_sidecar;
