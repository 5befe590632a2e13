-- 31 follow: what a later version may be, after the one before it. First versions and who may write at all:
-- 30_guards.

create or replace function ledger.may_follow(
    p_entity_type text,
    p_tenant_id text,
    p_before text,
    p_after text,
    p_is_engine boolean
)
returns boolean
language plpgsql
immutable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when p_entity_type = 'request' and p_is_engine then case p_before
            when 'scheduled' then p_after in
                ('running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled')
            when 'running' then p_after in
                ('running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled')
            when 'retry' then p_after in
                ('scheduled', 'running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled')
            when 'blocked' then p_after in
                ('scheduled', 'running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled')
            when 'cancel_requested' then p_after = 'cancelled'
            else false
        end
        when p_entity_type = 'request' then case p_after
            when 'cancel_requested' then p_before in ('scheduled', 'running', 'retry', 'blocked')
            when 'scheduled' then p_before = 'dead'
            else false
        end
        when p_entity_type in ('manifest', 'key')
            or p_tenant_id = 'system' and p_entity_type in ('function', 'provider')
            then case p_before
                when 'draft' then p_after = 'active'
                when 'active' then p_after in ('active', 'deprecated', 'revoked')
                -- What is out of use can still turn out to be stolen. There is one manifest: whoever takes it out
                -- of force must not end the ledger.
                when 'deprecated' then p_after = 'revoked' or p_entity_type = 'manifest' and p_after = 'active'
                when 'revoked' then p_entity_type = 'manifest' and p_after = 'active'
                    -- Stolen earlier than was thought. It never comes back.
                    or p_entity_type = 'key' and p_after = 'revoked'
                else false
            end
        when p_entity_type = 'function' then case p_before
            when 'archived' then p_after in ('active', 'archived')
            else p_after = 'archived'
                or p_before in ('draft', 'active', 'scheduled')
                    and p_after in ('draft', 'active', 'scheduled')
        end
        when p_entity_type in ('policy', 'provider') or starts_with(p_entity_type, 'prompt_')
            then p_after = 'archived'
                or p_before in ('draft', 'active') and p_after in ('draft', 'active')
                -- A result, such as prompt_run, has another status or none, and keeps it.
                or starts_with(p_entity_type, 'prompt_') and p_before is not distinct from p_after
                    and coalesce(p_before, '') not in ('draft', 'active', 'archived')
        when p_entity_type in (
            'execution', 'boot_event', 'policy_cursor', 'policy_error', 'policy_violation',
            'checkpoint', 'incident', 'epoch', 'status_patch', 'provider_execution'
        ) then false
        else true
    end;
end
$$;

comment on function ledger.may_follow(text, text, text, text, boolean) is
    'Whether a version with status p_after may follow one with p_before, for the engine or for anyone '
    'else. Null counts as no.';

-- Definer: the version before may be hidden from the caller and must stay hidden. What comes out is an error
-- that is the same for a missing and for a foreign id.
create or replace function ledger.follow_version()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Inside a definer function current_user is its owner; the role that was set is still in sight.
    v_caller text := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    v_is_engine boolean := v_caller = 'loglineos_sidecar';
    v_previous record;
    v_before text;
    v_code text;
begin
    select p.owner_id, p.tenant_id, p.entity_type, p.status, p.curr_hash, p.parent_id
    into v_previous
    from ledger.universal_registry as p
    where p.id = new.id
        and p.seq = new.seq - 1;
    v_before := v_previous.status;

    -- What the engine appends to a request, most often: all of what follows holds.
    if v_is_engine then
        if new.entity_type = 'request' and v_previous.entity_type = 'request'
            and v_previous.owner_id = new.owner_id and v_previous.tenant_id = new.tenant_id
            and (new.parent_id <> v_previous.parent_id) is not true
            and v_before in ('scheduled', 'running', 'retry', 'blocked')
            and new.status in ('running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled')
            and new.curr_hash is not null and new.prev_hash = v_previous.curr_hash
        then
            return new;
        end if;
    end if;

    v_code := case
        when v_previous.owner_id is null then 'LL002'
        -- The engine and the owner see every row anyway. To others a foreign one is not there.
        when v_previous.owner_id <> new.owner_id or v_previous.tenant_id <> new.tenant_id
            then case when v_is_engine or v_caller = current_user then 'LL013' else 'LL002' end
        when v_previous.entity_type <> new.entity_type
            or new.entity_type = 'request' and new.parent_id <> v_previous.parent_id
            then 'LL013'
        when ledger.may_follow(
            new.entity_type, new.tenant_id, v_before, new.status, v_is_engine
        ) is not true then 'LL003'
        when new.prev_hash is null and new.curr_hash is not null
            and v_previous.curr_hash is not null
            then 'LL016'
        when new.prev_hash is not null
            and new.prev_hash is distinct from v_previous.curr_hash
            then 'LL014'
    end;
    if v_code is null then
        if new.curr_hash is null then
            new.prev_hash := v_previous.curr_hash;
            if new.entity_type = 'request' then
                new.parent_id := v_previous.parent_id;
            end if;
        end if;
        return new;
    end if;

    if exists (
        select
        from ledger.universal_registry as existing
        where existing.id = new.id
            and existing.seq = new.seq
            and (
                v_is_engine
                or existing.owner_id = new.owner_id and existing.tenant_id = new.tenant_id
            )
    ) then
        return new;
    end if;
    raise exception using
        errcode = v_code,
        message = case v_code
            when 'LL002' then 'there is no version ' || new.seq - 1 || ' of span ' || new.id
                || ' that you may follow'
            when 'LL003' then new.entity_type || ': status ' || coalesce(new.status, 'null')
                || ' may not follow ' || coalesce(v_before, 'null')
                || case when v_is_engine then ' by the engine' else ' by its owner' end
            when 'LL013' then 'version ' || new.seq || ' of span ' || new.id
                || ' changes tenant_id, owner_id, entity_type or, of a request, parent_id'
            when 'LL014' then 'prev_hash is not the curr_hash of version ' || new.seq - 1
            when 'LL016' then 'a span with curr_hash leaves prev_hash to be filled in'
        end,
        hint = case v_code
            when 'LL002' then 'State seq 0 for a new thing, else the newest seq plus 1 of a thing of '
                'your own: only its owner appends versions, not who may read it.'
            when 'LL003' then 'Read the newest version and append one that its life allows '
                '(ledger.may_follow).'
            when 'LL013' then 'Repeat those of the version before; for another thing use another id.'
            when 'LL014' then 'Read that version again; leave prev_hash out when it has no curr_hash.'
            when 'LL016' then 'State prev_hash: the curr_hash of version ' || new.seq - 1 || '.'
        end;
end
$$;

comment on function ledger.follow_version() is
    'Decides whether a version may follow the one before it: no gap; same tenant, owner and type; an '
    'allowed change of status; the right prev_hash.';

create or replace trigger universal_registry_before_insert_2_follow
    before insert on ledger.universal_registry
    for each row
    when (new.seq > 0)
    execute function ledger.follow_version();

comment on trigger universal_registry_before_insert_2_follow on ledger.universal_registry is
    'A version must follow the one before it.';

-- Also under session_replication_role = replica, which Supabase lets the owner set.
alter table ledger.universal_registry
    enable always trigger universal_registry_before_insert_2_follow;
