-- 53 call: whether a client may call a function, asked by the insert guard (30_guards).

-- Definer: whether a function is in use is told by its newest version, also where the caller may read an
-- older one only. It answers for the asker alone, and to those who act for others.
create or replace function ledger_private.may_call(
    p_function_id uuid,
    p_owner_id text,
    p_tenant_id text
)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Inside a definer function current_user is its owner; the role that was set is still in sight.
    v_caller text := coalesce(nullif(current_setting('role', true), 'none'), session_user);
begin
    return (
        v_caller in ('service_role', current_user)
        or p_owner_id = ledger.current_user_id() and p_tenant_id = ledger.current_tenant_id()
        or p_owner_id = 'system' and p_tenant_id = 'system' and ledger.is_governor()
    ) is true
        -- A span that is hidden and one that is missing look the same.
        and ledger.is_callable(p_function_id, p_owner_id, p_tenant_id) is true;
end
$$;

comment on function ledger_private.may_call(uuid, text, text) is
    'ledger.is_callable for the asker himself, and for service_role: false for anybody else. For the insert '
    'guard.';

revoke all on function ledger_private.may_call(uuid, text, text)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.may_call(uuid, text, text)
    to authenticated, service_role;
