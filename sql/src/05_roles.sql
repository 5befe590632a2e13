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
    foreach v_role in array array['loglineos_kernel', 'authenticated'] loop
        if not pg_catalog.pg_has_role('loglineos_sidecar', v_role, v_has) then
            execute format('grant %I to loglineos_sidecar', v_role);
        end if;
    end loop;

    -- The owner reaches the sidecar's roles with `set role`. From Postgres 16 on, a role's creator
    -- has only the admin option on it: the right to set it must be granted even to itself.
    foreach v_role in array array['loglineos_sidecar', 'loglineos_kernel'] loop
        if not pg_catalog.pg_has_role(current_user, v_role, v_has) then
            execute format('grant %I to %I', v_role, current_user);
        end if;
    end loop;
end
$roles$;
