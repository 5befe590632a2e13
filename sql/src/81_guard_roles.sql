-- 81 guard roles: who may be what, and what is set for whom. A part of guard_check (85).
--
-- Roles are those of the whole server, and other ledgers may stand there: their owners hold the sidecar's
-- role and the kernels' too. Of anybody else it is asked why.

create or replace function ledger_private.role_faults(p_owner oid)
returns table (wall text, problem text, mend text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ours constant text[] := array['anon', 'authenticated', 'service_role', 'authenticator',
        'loglineos_sidecar', 'loglineos_kernel'];
    -- Supabase has roles of its own, which nobody else can make there.
    v_on_supabase constant boolean := exists (
        select from pg_catalog.pg_roles as r where r.rolname = 'supabase_admin' and r.rolsuper
    );
begin
    return query
    select 'role ' || r.oid::regrole, 'is ' || t.problem, format('alter role %I ', r.rolname) || t.mend
    from pg_catalog.pg_roles as r
    cross join lateral (values
        (r.rolsuper, 'a superuser', 'nosuperuser'),
        (r.rolbypassrls and r.rolname <> 'service_role', 'not bound by row level security', 'nobypassrls'),
        (r.rolcreaterole, 'a maker of roles', 'nocreaterole'),
        (r.rolreplication and r.rolname <> 'loglineos_sidecar', 'a reader of the WAL', 'noreplication'),
        (r.rolcanlogin and r.rolname not in ('authenticator', 'loglineos_sidecar'), 'a login', 'nologin')
    ) as t (falls, problem, mend)
    where r.rolname = any(v_ours)
        and t.falls;

    -- What is ours is a member of nothing that can do more, but as 05_roles and Supabase have it.
    return query
    select 'role ' || r.oid::regrole, 'is a member of ' || g.oid::regrole,
        case when exists (
            select from pg_catalog.pg_auth_members as m where m.member = r.oid and m.roleid = g.oid
        ) then format('revoke %I from %I', g.rolname, r.rolname)
            else 'Revoke it from the role through which this one is a member.' end
    from pg_catalog.pg_roles as r
    join pg_catalog.pg_roles as g on g.oid <> r.oid and (
        g.oid = p_owner
        or g.rolname = any(array_remove(v_ours, 'anon'))
        or g.rolsuper or g.rolbypassrls or g.rolcreaterole or g.rolreplication
        or g.rolname in ('pg_write_all_data', 'pg_execute_server_program', 'pg_write_server_files',
            'pg_read_server_files', 'pg_create_subscription')
    )
    where r.rolname = any(v_ours)
        and not r.rolsuper
        and pg_has_role(r.oid, g.oid, 'member')
        and not (r.rolname = 'authenticator' and g.rolname in ('authenticated', 'service_role'))
        and not (r.rolname = 'loglineos_sidecar' and g.rolname in ('authenticated', 'loglineos_kernel'));

    -- Others who can be the owner, the sidecar or a kernel. Looked for through everybody, but not through
    -- those who are expected: whoever is a member of these is found there. A login of the sidecar's own is a
    -- member of its role directly, can not pass it on, and is nothing else here; whether it may replicate
    -- says nothing, since one that polls, or has REPLICATION_URL beside it, need not.
    return query
    with recursive edge as (
        -- Postgres 16 makes a role's maker its administrator, who can not use it.
        select m.roleid as held, m.member
        from pg_catalog.pg_auth_members as m
        join pg_catalog.pg_roles as r on r.oid = m.member
        where (
                coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)
                or (to_jsonb(m) ->> 'inherit_option')::boolean
            )
            and not r.rolsuper
            and r.oid <> p_owner
            and r.rolname <> all(v_ours)
            and not (v_on_supabase and r.rolname ~ '^(supabase|cli_login)_')
    ),
    reach as (
        select e.held, e.member
        from edge as e
        join pg_catalog.pg_roles as g on g.oid = e.held
        where g.oid = p_owner and not exists (
                select
                from pg_catalog.pg_database as d
                where d.datname = current_database() and d.datdba = e.member
            )
            or g.rolname in ('loglineos_sidecar', 'loglineos_kernel') and not exists (
                select from pg_catalog.pg_database as d where d.datdba = e.member
            )
            or g.rolname in ('anon', 'authenticated', 'service_role', 'authenticator')
        union
        select r.held, e.member
        from reach as r
        join edge as e on e.held = r.member
    )
    select 'role ' || c.member::regrole, 'is a member of ' || c.held::regrole,
        case when exists (
            select from pg_catalog.pg_auth_members as m where m.member = c.member and m.roleid = c.held
        ) then format('revoke %s from %s', c.held::regrole, c.member::regrole)
            else 'Revoke it from the role through which this one is a member.' end
    from reach as c
    join pg_catalog.pg_roles as r on r.oid = c.member
    where (c.held = p_owner or c.held in (to_regrole('loglineos_sidecar'), to_regrole('loglineos_kernel')))
        and not (
            c.held = to_regrole('loglineos_sidecar')
            and r.rolcanlogin
            and not r.rolcreaterole
            and exists (
                select from pg_catalog.pg_auth_members as m where m.member = c.member and m.roleid = c.held
            )
            and not exists (
                select
                from pg_catalog.pg_auth_members as m
                where m.member = c.member and m.roleid = c.held and m.admin_option
            )
            and not exists (
                select from reach as other where other.member = c.member and other.held <> c.held
            )
        );

    -- Who reads as a client, past the policies.
    return query
    select 'role ' || r.oid::regrole, 'is not bound by row level security, and a member of ' || g.oid::regrole,
        format('alter role %I nobypassrls', r.rolname)
    from pg_catalog.pg_roles as r
    join pg_catalog.pg_roles as g on g.rolname in ('anon', 'authenticated', 'loglineos_kernel')
    where r.rolbypassrls
        and not r.rolsuper
        and r.oid <> p_owner
        and r.rolname <> all(v_ours)
        and not (v_on_supabase and (r.rolname = 'postgres' or r.rolname ~ '^supabase_'))
        and pg_has_role(r.oid, g.oid, 'member')
        and not exists (select from pg_catalog.pg_database as d where d.datdba = r.oid);

    -- Who somebody is must not be said beforehand.
    return query
    select 'setting ' || c.name, 'is set for ' || c.place,
        format('alter %s reset %s', c.place, (
            select string_agg(quote_ident(part), '.') from regexp_split_to_table(c.name, '[.]') as part
        ))
    from (
        select split_part(p.pair, '=', 1) as name, case
                when s.setrole = 0 and s.setdatabase <> 0 then ''
                else 'role ' || coalesce(nullif(s.setrole, 0)::regrole::text, 'all')
            end
            || case when s.setrole <> 0 and s.setdatabase <> 0 then ' in ' else '' end
            || coalesce('database ' || quote_ident(d.datname), '') as place
        from pg_catalog.pg_db_role_setting as s
        left join pg_catalog.pg_database as d on d.oid = s.setdatabase
        left join pg_catalog.pg_roles as r on r.oid = s.setrole
        cross join unnest(s.setconfig) as p (pair)
        where (s.setdatabase = 0 or d.datname = current_database())
            and (s.setrole = 0 or r.rolname = any(v_ours))
    ) as c
    where lower(c.name) ~ '^(request\.|loglineos\.|app\.(user_id|tenant_id)$)'
        or lower(c.name) in ('role', 'session_replication_role', 'row_security');

    -- What is still to come.
    return query
    select 'default privileges',
        format('%s gives new %s%s to others', d.defaclrole::regrole, t.objects,
            ' of schema ' || nullif(d.defaclnamespace, 0)::regnamespace),
        concat_ws(' ', 'alter default privileges for role', d.defaclrole::regrole,
            'in schema ' || nullif(d.defaclnamespace, 0)::regnamespace, 'revoke all on', t.objects, 'from',
            case a.grantee when 0 then 'public' else a.grantee::regrole::text end)
    from pg_catalog.pg_default_acl as d
    cross join lateral aclexplode(d.defaclacl) as a
    cross join lateral (select case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences'
        when 'f' then 'functions' when 'n' then 'schemas' else 'types' end) as t (objects)
    where a.grantee <> d.defaclrole
        and (
            d.defaclnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_private'))
            or d.defaclnamespace = 0 and d.defaclrole = p_owner and d.defaclobjtype in ('r', 'f', 'n') and (
                a.grantee in (to_regrole('anon'), to_regrole('authenticated'), to_regrole('loglineos_kernel'))
                or a.grantee = 0 and d.defaclobjtype <> 'f'
            )
        )
    group by d.defaclrole, d.defaclnamespace, t.objects, a.grantee;
end
$$;

comment on function ledger_private.role_faults(oid) is
    'Which roles could do more than the ledger gives them, given its owner. For guard_check.';

revoke all on function ledger_private.role_faults(oid)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.role_faults(oid)
    to service_role, loglineos_sidecar;
