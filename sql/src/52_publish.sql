-- 52 publish: who besides a governor may show a span to everybody.
--
-- The manifest in force grants it: metadata.grants has the keys user:<user id> and tenant:<tenant id>, and
-- their rights are visibility:public, or visibility:public:<type>,<type> for these types only. The sidecar
-- reads the same form (sidecar/span, Grant). Whatever is malformed grants nothing.

-- Definer: the manifest may be one that its asker can not read. It answers for the asker alone, and to
-- service_role, which reads everything.
create or replace function ledger_private.may_publish(
    p_owner_id text,
    p_tenant_id text,
    p_entity_type text
)
returns boolean
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_manifest record;
    v_rights jsonb;
begin
    if coalesce(nullif(current_setting('role', true), 'none'), session_user) <> 'service_role' and (
        p_owner_id is distinct from ledger.current_user_id()
        or p_tenant_id is distinct from ledger.current_tenant_id()
    ) then
        return false;
    end if;

    -- The newest version that is effective, whatever its status: a manifest that is revoked grants
    -- nothing any more, nor does the one before it. Without a hash it never takes force.
    select
        m.status = 'active' and not m.is_deleted and m.curr_hash is not null as is_in_force,
        m.metadata -> 'grants' as grants
    into v_manifest
    from ledger.universal_registry as m
    where m.id = '00000000-0000-4000-8000-0000000000aa'
        and m.entity_type = 'manifest'
        and (m.effective_at is null or m.effective_at <= now())
    order by m.seq desc
    limit 1;
    if v_manifest.is_in_force is not true then
        return false;
    end if;

    foreach v_rights in array array[
        v_manifest.grants -> ('user:' || p_owner_id),
        v_manifest.grants -> ('tenant:' || p_tenant_id)
    ] loop
        if exists (
            select
            from jsonb_array_elements_text(
                case jsonb_typeof(v_rights) when 'array' then v_rights end
            ) as granted (form)
            where granted.form = 'visibility:public'
                or granted.form like 'visibility:public:%'
                    and p_entity_type = any (string_to_array(substr(granted.form, 19), ','))
        ) then
            return true;
        end if;
    end loop;
    return false;
end
$$;

comment on function ledger_private.may_publish(text, text, text) is
    'Whether the manifest in force lets this user of this tenant append spans of this type with visibility '
    'public: grants of user:<user id> or tenant:<tenant id>. For the insert guard.';

revoke all on function ledger_private.may_publish(text, text, text)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.may_publish(text, text, text)
    to authenticated, service_role;
