-- 05 roles: who may come in at all.
--
-- Roles belong to the cluster, not to the database, so each one is made only where it is missing:
-- Supabase brings the first three, a second database of the same cluster finds all five. The same
-- text runs in the extension form. There the roles are not members of the extension: they survive
-- `drop extension` and a dump does not carry them, and because of the guards neither hurts.
--
-- No role is given BYPASSRLS: service_role and loglineos_sidecar have policies of their own
-- (50_access), which is the same here and needs no superuser.

do $roles$
declare
    v_role text;
    v_grant record;
    v_has text := case
        when current_setting('server_version_num')::integer >= 160000 then 'set'
        else 'member'
    end;
begin
    foreach v_role in array array[
        'anon', 'authenticated', 'service_role', 'loglineos_sidecar', 'loglineos_kernel'
    ] loop
        if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
            begin
                execute format('create role %I nologin noinherit', v_role);
            exception
                -- Another database of this cluster is being migrated at this moment.
                when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;

    -- The sidecar reads for a kernel as loglineos_kernel, and speaks for a client as authenticated.
    -- The owner reaches both roles of the sidecar with `set role`. From Postgres 16 on, a role's
    -- creator has only the admin option on it: the right to set it must be granted even to itself.
    for v_grant in
        select *
        from (values
            ('loglineos_kernel', 'loglineos_sidecar'),
            ('authenticated', 'loglineos_sidecar'),
            ('loglineos_sidecar', current_user),
            ('loglineos_kernel', current_user)
        ) as wanted (role_name, member_name)
        where not pg_catalog.pg_has_role(member_name, role_name, v_has)
    loop
        begin
            execute format('grant %I to %I', v_grant.role_name, v_grant.member_name);
        exception
            -- The roles are of another owner in this cluster. The ledger works; `set role` does not.
            when insufficient_privilege then
                raise warning using
                    message = format('%I may not be granted to %I by this role',
                        v_grant.role_name, v_grant.member_name),
                    hint = format('Let a superuser run: grant %I to %I',
                        v_grant.role_name, v_grant.member_name);
        end;
    end loop;
end
$roles$;
