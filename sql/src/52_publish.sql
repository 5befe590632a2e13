-- 52 publish: who besides a governor may show a span to everybody.
--
-- The manifest in force grants it: metadata.grants has the keys user:<user id> and tenant:<tenant id>, and
-- their rights are visibility:public, or visibility:public:<type>,<type> for these types only. The sidecar
-- reads the same form (sidecar/span, Grant). Whatever is malformed grants nothing.

-- From the oldest version that may matter to the newest, as the sidecar goes (sidecar/stage0/manifest.go). What it
-- refuses (malformed, not what was hashed, a missing signature) it says in an incident, and that version never
-- counts; until it has looked, a malformed one does. Called by a definer alone.
create or replace function ledger_private.manifest_seq_in_force()
returns integer
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    c_id constant uuid := uuid '00000000-0000-4000-8000-0000000000aa';
    -- Whatever timelock there was, it is over by then.
    c_timelock_max constant interval := interval '720 hours';
    v_version record;
    v_hours integer := 0;
    v_seq integer;
begin
    for v_version in
        with sound as materialized (
            select m.seq, m.status, m.is_deleted, m.metadata, m.effective_at, m.accepted_at
            from ledger.universal_registry as m
            where m.id = c_id
                and m.entity_type = 'manifest'
                and (m.curr_hash is not null or m.status is distinct from 'active' or m.is_deleted)
                and not exists (
                    select
                    from ledger.universal_registry as i
                    where i.parent_id = c_id
                        and i.owner_id = 'system'
                        and i.entity_type = 'incident'
                        and i.did = 'manifest refused'
                        and i.metadata #> '{engine,cause}' = jsonb_build_array(m.id, m.seq)
                )
        )
        select s.seq, s.status, s.is_deleted, s.metadata, s.effective_at, s.accepted_at
        from sound as s
        where s.seq >= coalesce((
            select max(o.seq)
            from sound as o
            where o.status = 'active'
                and not o.is_deleted
                and o.accepted_at <= now() - c_timelock_max
                and (o.effective_at is null or o.effective_at <= now())
        ), 0)
        order by s.seq
    loop
        continue when greatest(
            v_version.effective_at,
            case
                when v_version.seq > 0 and v_version.status = 'active'
                    then v_version.accepted_at + make_interval(hours => v_hours)
            end
        ) > now();
        if v_version.status is distinct from 'active' or v_version.is_deleted then
            v_seq := null; -- its timelock stays: what follows must not get around it
            continue;
        end if;
        v_seq := v_version.seq;
        -- A number in a document that may be malformed: read as text.
        v_hours := coalesce(substring(
            v_version.metadata #>> '{timelocks,manifest,activate_after_hours}' from '^[0-9]{1,3}$'
        )::integer, 0);
    end loop;
    return v_seq;
end
$$;

comment on function ledger_private.manifest_seq_in_force() is
    'The version of the manifest in force: the newest whose effective_at has come, whose timelock is over and '
    'which the sidecar has not refused. Null where there is none, or it was taken out of force. Not granted: for '
    'the functions below.';

revoke all on function ledger_private.manifest_seq_in_force()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

create or replace function ledger_private.manifest_in_force()
returns jsonb
language sql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
    select m.metadata
    from ledger.universal_registry as m
    where m.id = uuid '00000000-0000-4000-8000-0000000000aa'
        and m.seq = ledger_private.manifest_seq_in_force()
$$;

comment on function ledger_private.manifest_in_force() is
    'The metadata of the manifest in force (ledger_private.manifest_seq_in_force). Null where there is none. '
    'Not granted: for ledger_private.may_publish.';

revoke all on function ledger_private.manifest_in_force()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- Definer: what a sidecar has refused, it says in incidents that are private to the system. It answers with
-- numbers and a time, which tell nothing of what the document holds.
create or replace function ledger_private.manifest_standing()
returns table (
    seq integer,
    accepted_at timestamptz,
    newest_seq integer
)
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select m.seq, m.accepted_at, newest.seq
    from (
        select max(v.seq) as seq
        from ledger.universal_registry as v
        where v.id = uuid '00000000-0000-4000-8000-0000000000aa'
    ) as newest
    left join ledger.universal_registry as m
        on m.id = uuid '00000000-0000-4000-8000-0000000000aa'
        and m.seq = ledger_private.manifest_seq_in_force()
    where newest.seq is not null
$$;

comment on function ledger_private.manifest_standing() is
    'For ledger.manifest_in_force.';

revoke all on function ledger_private.manifest_standing()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.manifest_standing()
    to authenticated, service_role, loglineos_sidecar;

create or replace function ledger.manifest_in_force()
returns table (
    seq integer,
    accepted_at timestamptz,
    newest_seq integer
)
language sql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
    select s.seq, s.accepted_at, s.newest_seq
    from ledger_private.manifest_standing() as s
$$;

comment on function ledger.manifest_in_force() is
    'Which version of the manifest is in force (seq and accepted_at; null where none is) and which is the newest: '
    'where they differ, the newest waits for its time or its timelock, or was refused. No row where there is no '
    'manifest. It knows of signatures what a sidecar has said of them: a version that is not signed as it must be '
    'counts until one has looked.';

revoke all on function ledger.manifest_in_force()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.manifest_in_force()
    to authenticated, service_role, loglineos_sidecar;

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
    v_manifest jsonb;
    v_rights jsonb;
begin
    if coalesce(nullif(current_setting('role', true), 'none'), session_user) <> 'service_role' and (
        p_owner_id is distinct from ledger.current_user_id()
        or p_tenant_id is distinct from ledger.current_tenant_id()
    ) then
        return false;
    end if;

    v_manifest := ledger_private.manifest_in_force();
    foreach v_rights in array array[
        v_manifest #> array['grants', 'user:' || p_owner_id],
        v_manifest #> array['grants', 'tenant:' || p_tenant_id]
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
