-- 83 standing walls: every wall of the ledger as the catalog has it. guard_check (85) compares.
--
-- A text here is the same on Postgres 15 to 18, after a dump and under any owner, and under the settings that
-- change how Postgres writes, which are pinned: scripts/sqlbuild asks a new ledger for them (84),
-- tests/sqlrules asks on each version. Of a right it is the statement that takes it back.

create or replace function ledger_private.standing_walls()
returns table (kind text, name text, stands text)
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
    v_schemas constant oid[] := array[to_regnamespace('ledger'), to_regnamespace('ledger_private')];
    v_owner constant oid := (select c.relowner from pg_catalog.pg_class as c where c.oid = v_table);
begin
    return query
    select 'column', a.attname::text, concat_ws(
        ' ',
        a.attnum,
        format_type(a.atttypid, a.atttypmod),
        case when a.attnotnull then 'not null' end,
        case when a.attcollation <> t.typcollation then 'collate ' || a.attcollation::regcollation end,
        'default ' || pg_get_expr(d.adbin, d.adrelid),
        'generated ' || nullif(a.attgenerated::text || a.attidentity::text, '')
    )
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = v_table
        and a.attnum > 0
        and not a.attisdropped;

    -- From Postgres 18 on, not null is a constraint too. There a valid one is told by its column.
    return query
    select 'constraint', c.conname::text, format(
        'alter table ledger.universal_registry add constraint %I %s', c.conname, pg_get_constraintdef(c.oid)
    ) || case when not (i.indisvalid and i.indisready and i.indislive) then ' -- invalid' else '' end
    from pg_catalog.pg_constraint as c
    left join pg_catalog.pg_index as i on i.indexrelid = c.conindid and i.indrelid = v_table
    where c.conrelid = v_table
        and not (c.contype = 'n' and c.convalidated);

    return query
    select 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
        || case when i.indisvalid and i.indisready and i.indislive then '' else ' -- invalid' end
    from pg_catalog.pg_index as i
    where i.indrelid = v_table
        and not exists (
            select from pg_catalog.pg_constraint as c where c.conindid = i.indexrelid and c.conrelid = v_table
        );

    return query
    select 'trigger', t.tgname::text, format(
        '%s; alter table %s enable %strigger %I',
        replace(pg_get_triggerdef(t.oid), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER'),
        t.tgrelid::regclass,
        case t.tgenabled when 'A' then 'always ' when 'R' then 'replica ' else '' end,
        t.tgname
    ) || case t.tgenabled when 'D' then ' -- disabled' else '' end
    from pg_catalog.pg_trigger as t
    join pg_catalog.pg_class as c on c.oid = t.tgrelid
    where (c.oid = v_table or c.relnamespace = any(v_schemas) and c.relkind = 'v')
        and not t.tgisinternal;

    return query
    select 'policy', p.polname::text, format(
        'create policy %I on ledger.universal_registry as %s for %s to %s',
        p.polname,
        case when p.polpermissive then 'permissive' else 'restrictive' end,
        case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
            when 'd' then 'delete' else 'all' end,
        (
            select string_agg(case r.oid
                when 0 then 'public'
                when v_owner then '%owner%'
                else r.oid::regrole::text
            end, ', ' order by r.oid::regrole::text)
            from unnest(p.polroles) as r (oid)
        )
    ) || coalesce(' using (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
        || coalesce(' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
    from pg_catalog.pg_policy as p
    where p.polrelid = v_table;

    -- Postgres 16 writes fewer prefixes than 15 does, and names those of a set of columns.
    return query
    select 'view', c.oid::regclass::text, concat_ws(
        ' ',
        c.relkind,
        array_to_string(array(select o from unnest(c.reloptions) as o order by o), ' '),
        encode(sha256(convert_to(
            regexp_replace(regexp_replace(pg_get_viewdef(c.oid), e'\\mr[.]', '', 'g'), '[[:space:]]+', ' ', 'g'),
            'UTF8'
        )), 'hex')
    )
    from pg_catalog.pg_class as c
    where c.relnamespace = any(v_schemas)
        and c.relkind in ('v', 'm');

    -- A body in the form of the SQL standard has no text of its own.
    return query
    select 'function', p.oid::regprocedure::text, concat_ws(
        ' ',
        '(' || pg_get_function_arguments(p.oid) || ') returns',
        coalesce(pg_get_function_result(p.oid), 'nothing'),
        l.lanname, p.prokind, p.provolatile, p.proparallel,
        case when p.prosecdef then 'definer' else 'invoker' end,
        case when p.proisstrict then 'strict' end,
        case when p.proleakproof then 'leakproof' end,
        array_to_string(p.proconfig, ' '),
        regexp_replace(pg_get_function_sqlbody(p.oid), '[[:space:]]+', ' ', 'g')
    )
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_language as l on l.oid = p.prolang
    where p.pronamespace = any(v_schemas)
        and p.oid is distinct from to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()');

    return query
    select 'publication', p.pubname::text, format(
        'create publication loglineos for %s with (publish = %L%s)',
        case when p.puballtables then 'all tables' else concat_ws(', ', (
            select string_agg(
                format('table %s', r.prrelid::regclass)
                || coalesce((
                    select ' (' || string_agg(a.attname, ', ' order by a.attnum) || ')'
                    from pg_catalog.pg_attribute as a
                    where a.attrelid = r.prrelid and a.attnum = any(r.prattrs::int2[])
                ), '')
                || coalesce(' where (' || pg_get_expr(r.prqual, r.prrelid) || ')', ''),
                ', ' order by r.prrelid::regclass::text
            )
            from pg_catalog.pg_publication_rel as r
            where r.prpubid = p.oid
        ), (
            select string_agg('tables in schema ' || n.pnnspid::regnamespace, ', ')
            from pg_catalog.pg_publication_namespace as n
            where n.pnpubid = p.oid
        )) end,
        concat_ws(', ', case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
            case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end),
        case when p.pubviaroot then ', publish_via_partition_root = true' else '' end
    )
    from pg_catalog.pg_publication as p
    where p.pubname = 'loglineos';

    -- What anybody but the owner may do, as far as it was granted.
    return query
    select 'right', format('%s on %s to %s%s', lower(a.privilege_type), o.object || ' ' || o.name, g.name,
            case when a.is_grantable then ' with grant option' else '' end),
        format('revoke %s on %s from %s', concat_ws(' ', lower(a.privilege_type), o.part),
            concat_ws(' ', nullif(o.object, 'column'), o.whole), g.name)
    from (
        select 'table', c.oid::regclass::text, null, c.oid::regclass::text, c.relowner,
            coalesce(c.relacl, acldefault('r', c.relowner))
        from pg_catalog.pg_class as c
        where c.oid = v_table or c.relnamespace = any(v_schemas) and c.relkind in ('v', 'm')
        union all
        select 'column', format('%I of %s', t.attname, c.oid::regclass), format('(%I)', t.attname),
            c.oid::regclass::text, c.relowner, t.attacl
        from pg_catalog.pg_class as c
        join pg_catalog.pg_attribute as t on t.attrelid = c.oid and t.attacl is not null
        where c.oid = v_table or c.relnamespace = any(v_schemas) and c.relkind in ('v', 'm')
        union all
        select 'function', p.oid::regprocedure::text, null, p.oid::regprocedure::text, p.proowner,
            coalesce(p.proacl, acldefault('f', p.proowner))
        from pg_catalog.pg_proc as p
        where p.pronamespace = any(v_schemas)
        union all
        select 'schema', n.oid::regnamespace::text, null, n.oid::regnamespace::text, n.nspowner,
            coalesce(n.nspacl, acldefault('n', n.nspowner))
        from pg_catalog.pg_namespace as n
        where n.oid = any(v_schemas || to_regnamespace('engine')::oid)
    ) as o (object, name, part, whole, owner, acl)
    cross join lateral aclexplode(o.acl) as a
    cross join lateral (
        select case a.grantee when 0 then 'public' else a.grantee::regrole::text end as name
    ) as g
    where a.grantee <> o.owner;
end
$$;

comment on function ledger_private.standing_walls() is
    'Every wall of the ledger as the catalog has it, one row each, in a text that is the same in all versions '
    'of Postgres. For guard_check.';

revoke all on function ledger_private.standing_walls()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.standing_walls()
    to service_role, loglineos_sidecar;
