-- 30 guards: what may be appended, decided before each insert.
--
--     insert ──► 1_admit (as the caller)   who are you, may you write this at all? stamps the row
--            ──► 2_follow (as the owner)   seq > 0: does it follow the version before?
--            ──► 3_call (as the owner)     a client's new request: may it call that function?
--            ──► constraints, policies, primary key
--
-- A row whose (id, seq) is taken passes and meets the primary key, which alone decides. Triggers fire
-- before ON CONFLICT does: a guard that raised there would abort the whole batch of a sidecar that
-- comes too late. Hence each guard asks for the existing row before it refuses, and only then.
-- No lock is taken, nothing is notified, and the engine's rows take the shortest way.

create function ledger.may_start(p_entity_type text, p_tenant_id text, p_status text)
returns boolean
language plpgsql
immutable
parallel safe
security invoker
set search_path = ''
as $$
begin
    return case
        when p_entity_type in ('manifest', 'key')
            or p_tenant_id = 'system' and p_entity_type in ('function', 'provider')
            then p_status in ('draft', 'active')
        when p_entity_type = 'function' then p_status in ('draft', 'active', 'scheduled')
        when p_entity_type in ('policy', 'provider') then p_status in ('draft', 'active')
        when p_entity_type = 'request' then p_status = 'scheduled'
        else true
    end;
end
$$;

comment on function ledger.may_start(text, text, text) is
    'Whether version 0 of a span of this type may have this status. Null counts as no.';

create function ledger.may_follow(
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
set search_path = ''
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
                ('scheduled', 'running', 'complete', 'error', 'retry', 'dead', 'cancelled')
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
                -- What is out of use can still turn out to be stolen.
                when 'deprecated' then p_after = 'revoked'
                else false
            end
        when p_entity_type = 'function' then case p_before
            when 'archived' then p_after in ('active', 'archived')
            else p_after in ('draft', 'active', 'scheduled', 'archived')
        end
        when p_entity_type in ('policy', 'provider')
            or p_entity_type like 'prompt\_%' and p_before in ('draft', 'active', 'archived')
            then case p_before
                when 'archived' then p_after = 'archived'
                else p_after in ('draft', 'active', 'archived')
            end
        when p_entity_type in (
            'execution', 'boot_event', 'policy_cursor', 'policy_error', 'policy_violation',
            'checkpoint', 'incident', 'epoch', 'status_patch', 'provider_execution'
        ) then false
        else true
    end;
end
$$;

comment on function ledger.may_follow(text, text, text, text, boolean) is
    'Whether a version with status p_after may follow one with p_before, for the engine or for anyone else. Null counts as no.';

create function ledger.admit_span()
returns trigger
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
    v_is_engine boolean := current_user = 'loglineos_sidecar';
    v_is_owner boolean := false;
    v_user text;
    v_tenant text;
    v_code text;
    v_message text;
    v_hint text;
begin
    -- The database's own columns, whatever was sent.
    new.accepted_at := statement_timestamp();
    new.xact := pg_catalog.pg_current_xact_id();

    if new.curr_hash is not null and (
        new.id is null or new.seq is null or new.who is null or new.at is null
        or new.owner_id is null or new.tenant_id is null or new.visibility is null
        or new.is_deleted is null
    ) then
        raise exception using
            errcode = 'LL016',
            message = 'a span with curr_hash leaves a hashed column to be filled in',
            hint = 'State id, seq, who, at, owner_id, tenant_id, visibility and is_deleted, '
                'or leave curr_hash out.';
    end if;

    -- Fill what is absent. (An assignment to a record copies: only where needed.)
    if new.id is null then
        new.id := ledger.uuid7();
    end if;
    if new.seq is null then
        new.seq := 0;
    end if;
    if new.is_deleted is null then
        new.is_deleted := false;
    end if;
    if new.visibility is null then
        new.visibility := 'private';
    end if;
    if new.at is null then
        new.at := now();
    end if;

    -- Identity. The engine acts for others and states whom; so does service_role, and the owner.
    if not v_is_engine then
        v_user := ledger.current_user_id();
        v_tenant := ledger.current_tenant_id();
        -- A query costs ten times an expression: not for the client's usual way.
        if current_user not in ('authenticated', 'service_role') then
            v_is_owner := exists (
                select
                from pg_catalog.pg_class as c
                where c.oid = tg_relid
                    and pg_catalog.pg_get_userbyid(c.relowner) = current_user
            );
        end if;
        if new.owner_id is null then
            new.owner_id := v_user;
        end if;
        if new.tenant_id is null then
            new.tenant_id := v_tenant;
        end if;
        if new.who is null then
            new.who := coalesce('user:' || v_user, 'client:' || current_user);
        end if;
        if current_user <> 'service_role' and not v_is_owner then
            if v_user is null or v_tenant is null then
                raise exception using
                    errcode = 'LL005',
                    message = 'the verified token names no user or no tenant',
                    hint = 'Sign in with a token that carries sub and app_metadata.tenant_id.';
            end if;
            if (new.owner_id <> v_user or new.tenant_id <> v_tenant) and not (
                new.owner_id = 'system' and new.tenant_id = 'system' and ledger.is_governor()
            ) then
                raise exception using
                    errcode = 'LL006',
                    message = 'owner_id or tenant_id is not that of the verified token',
                    hint = 'Leave owner_id and tenant_id out: they are filled from the token.';
            end if;
        end if;
    end if;

    if new.owner_id is null or new.tenant_id is null then
        raise exception using
            errcode = 'LL005',
            message = 'the span has no owner_id or no tenant_id, and no token to take them from',
            hint = 'State owner_id and tenant_id: of an effect, those of its cause.';
    end if;
    if new.entity_type is null or new.who is null then
        raise exception using
            errcode = 'LL017',
            message = 'the span has no entity_type or no who',
            hint = 'State entity_type, for example note, and who, for example user:<id>.';
    end if;
    if new.seq < 0 then
        raise exception using
            errcode = 'LL017',
            message = 'seq ' || new.seq || ' is negative',
            hint = 'State seq 0 for a new thing, else the newest seq plus 1.';
    end if;

    -- Types that belong to somebody.
    if new.entity_type in ('manifest', 'key')
        or new.tenant_id = 'system' and new.entity_type in ('function', 'provider')
    then
        if v_is_engine or not (v_is_owner or ledger.is_governor()) then
            v_code := 'LL004';
            v_message := new.entity_type || ' of tenant ' || new.tenant_id
                || ' is written by a governor only';
            v_hint := 'Ask for the claim app_metadata.logline_role = governor.';
        end if;
    elsif not v_is_engine and new.entity_type in (
        'execution', 'boot_event', 'policy_cursor', 'policy_error', 'policy_violation', 'checkpoint',
        'incident', 'epoch', 'metric', 'status_patch', 'provider_execution'
    ) then
        v_code := 'LL004';
        v_message := new.entity_type || ' is written by the engine only';
        v_hint := 'Use an entity_type of your own, or append a request and let it run.';
    end if;

    -- What is reserved. None of it binds the engine.
    if v_code is null and not v_is_engine then
        if new.id >= '00000000-0000-4000-8000-000000000000'
            and new.id <= '00000000-0000-4000-8000-ffffffffffff'
            and not (v_is_owner or ledger.is_governor())
            or new.id in (
                '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'
            )
            -- A later version of what the engine made is its owner's affair (2_follow).
            or new.seq = 0 and substr(new.id::text, 15, 1) = '8'
        then
            v_code := 'LL007';
            v_message := 'id ' || new.id || ' is a system id, a derived (version 8), nil or max id';
            v_hint := 'Leave id out, or state a version 7 or version 4 UUID.';
        elsif lower(new.who) ~ '^\s*(kernel|policy|sidecar|system)\s*:'
            and not (
                lower(new.who) ~ '^system:' and (v_is_owner or ledger.is_governor())
            )
        then
            v_code := 'LL008';
            v_message := 'who "' || left(new.who, 60) || '" is reserved';
            v_hint := 'Leave who out, or state user:<id> or client:<name>.';
        elsif new.metadata ? 'engine' then
            v_code := 'LL009';
            v_message := 'metadata.engine is written by the engine only';
            v_hint := 'Leave the key engine out of metadata.';
        elsif new.visibility = 'public' and not (v_is_owner or ledger.is_governor()) then
            v_code := 'LL010';
            v_message := 'visibility public needs the governing right';
            v_hint := 'State visibility tenant or private.';
        elsif not v_is_owner and not (
            new.at between now() - interval '30 days' and now() + interval '5 minutes'
        ) then
            v_code := 'LL011';
            v_message := 'at ' || new.at || ' is outside -30 days to +5 minutes of now';
            v_hint := 'Leave at out, mend the clock, or keep the old time in metadata.';
        elsif (new.tenant_id = 'system' or new.owner_id = 'system')
            and not (v_is_owner or ledger.is_governor())
        then
            v_code := 'LL006';
            v_message := 'the owner and the tenant system belong to governors';
            v_hint := 'State the owner_id and the tenant_id of a user.';
        elsif new.seq > 0 and new.entity_type = 'request' and (
            new.status is null or new.status not in ('cancel_requested', 'scheduled')
        ) then
            v_code := 'LL003';
            v_message := 'a request gets status ' || coalesce(new.status, 'null')
                || ' from the engine only';
            v_hint := 'Its owner may append cancel_requested, or scheduled after dead.';
        end if;
    end if;

    if v_code is null and new.seq = 0 then
        if new.prev_hash is not null then
            v_code := 'LL014';
            v_message := 'version 0 states a prev_hash, but nothing is before it';
            v_hint := 'Leave prev_hash out.';
        elsif not coalesce(ledger.may_start(new.entity_type, new.tenant_id, new.status), false) then
            v_code := 'LL003';
            v_message := new.entity_type || ' may not start with status '
                || coalesce(new.status, 'null');
            v_hint := case new.entity_type
                when 'request' then 'State status scheduled.'
                else 'State status draft or active; a function of your own may be scheduled, too.'
            end;
        end if;
    end if;

    if v_code is null then
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
    raise exception using errcode = v_code, message = v_message, hint = v_hint;
end
$$;

comment on function ledger.admit_span() is
    'Decides by current_user whether this role may append this span at all, fills what it left out, and stamps accepted_at and xact.';

-- Definer: the version before may be hidden from the caller, and must stay hidden. What comes out is
-- an error that is the same for a missing and for a foreign id.
create function ledger.follow_version()
returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_is_engine boolean := tg_argv[0] = 'engine';
    v_previous record;
    v_code text;
    v_message text;
    v_hint text;
begin
    select p.owner_id, p.tenant_id, p.entity_type, p.status, p.curr_hash, p.parent_id
    into v_previous
    from ledger.universal_registry as p
    where p.id = new.id
        and p.seq = new.seq - 1;

    if not found then
        v_code := 'LL002';
    elsif v_previous.owner_id <> new.owner_id or v_previous.tenant_id <> new.tenant_id then
        -- The engine and the database's owner see every row anyway; to others it is not there.
        v_code := case
            when v_is_engine
                or coalesce(nullif(current_setting('role', true), 'none'), session_user) = current_user
                then 'LL013'
            else 'LL002'
        end;
    elsif v_previous.entity_type <> new.entity_type
        or new.entity_type = 'request' and new.parent_id <> v_previous.parent_id
    then
        v_code := 'LL013';
    elsif not coalesce(ledger.may_follow(
        new.entity_type, new.tenant_id, v_previous.status, new.status, v_is_engine
    ), false) then
        v_code := 'LL003';
        v_message := new.entity_type || ': status ' || coalesce(new.status, 'null')
            || ' may not follow ' || coalesce(v_previous.status, 'null')
            || case when v_is_engine then ' by the engine' else '' end;
        v_hint := 'Read the newest version and append one that its life allows (ledger.may_follow).';
    elsif new.prev_hash <> v_previous.curr_hash
        or new.prev_hash is not null and v_previous.curr_hash is null
    then
        v_code := 'LL014';
        v_message := 'prev_hash is not the curr_hash of version ' || new.seq - 1;
        v_hint := 'Read that version again; leave prev_hash out when it has no curr_hash.';
    elsif new.prev_hash is null and v_previous.curr_hash is not null then
        if new.curr_hash is not null then
            v_code := 'LL016';
            v_message := 'a span with curr_hash leaves prev_hash to be filled in';
            v_hint := 'State prev_hash: the curr_hash of version ' || new.seq - 1 || '.';
        else
            new.prev_hash := v_previous.curr_hash;
        end if;
    end if;

    if v_code is null then
        if new.entity_type = 'request' and new.parent_id is null and new.curr_hash is null then
            new.parent_id := v_previous.parent_id;
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
    if v_code = 'LL002' then
        v_message := 'there is no version ' || new.seq - 1 || ' of span ' || new.id
            || ' that you may follow';
        v_hint := 'State seq 0 for a new thing, else the newest seq plus 1 of a thing of your own.';
    elsif v_code = 'LL013' then
        v_message := 'version ' || new.seq || ' of span ' || new.id
            || ' changes tenant_id, owner_id, entity_type or, of a request, parent_id';
        v_hint := 'Repeat those of the version before; for another thing use another id.';
    end if;
    raise exception using errcode = v_code, message = v_message, hint = v_hint;
end
$$;

comment on function ledger.follow_version() is
    'Decides whether a version may follow the one before it: no gap, same tenant, owner and type, an allowed change of status, the right prev_hash.';

-- Definer: whether a function is still callable is told by its newest version, also where that one
-- is hidden from the caller. Readable is what the policies of 50_access call readable, judged for the
-- owner of the request, so that service_role can not call for somebody what he could not call.
create function ledger.check_call()
returns trigger
language plpgsql
volatile
security definer
set search_path = ''
as $$
declare
    v_function record;
begin
    select f.entity_type, f.status, f.is_deleted, f.owner_id, f.tenant_id, f.visibility
    into v_function
    from ledger.universal_registry as f
    where f.id = new.parent_id
    order by f.seq desc
    limit 1;

    if found
        and v_function.entity_type = 'function'
        and not v_function.is_deleted
        and coalesce(v_function.status, '') not in ('archived', 'revoked')
        and (
            v_function.owner_id = new.owner_id and v_function.tenant_id = new.tenant_id
            or v_function.visibility = 'tenant' and v_function.tenant_id = new.tenant_id
            or v_function.visibility = 'public'
        )
    then
        return new;
    end if;

    if exists (
        select
        from ledger.universal_registry as existing
        where existing.id = new.id
            and existing.seq = new.seq
            and existing.owner_id = new.owner_id
            and existing.tenant_id = new.tenant_id
    ) then
        return new;
    end if;
    raise exception using
        errcode = 'LL015',
        message = 'parent_id ' || coalesce(new.parent_id::text, 'null')
            || ' is no function that you may call',
        hint = 'State as parent_id the id of a function that you can read and that is not archived.';
end
$$;

comment on function ledger.check_call() is
    'Decides whether a client''s request may call its parent: a function, not archived, that the owner of the request may read.';

-- WHEN is evaluated as the caller: that is how the definer functions learn who it is.
create trigger universal_registry_before_insert_1_admit
    before insert on ledger.universal_registry
    for each row
    execute function ledger.admit_span();

comment on trigger universal_registry_before_insert_1_admit on ledger.universal_registry is
    'Who may write what; fills and stamps. First.';

create trigger universal_registry_before_insert_2_follow
    before insert on ledger.universal_registry
    for each row
    when (new.seq > 0 and current_user <> 'loglineos_sidecar')
    execute function ledger.follow_version('client');

comment on trigger universal_registry_before_insert_2_follow on ledger.universal_registry is
    'A later version must follow the one before it.';

create trigger universal_registry_before_insert_2_follow_engine
    before insert on ledger.universal_registry
    for each row
    when (new.seq > 0 and current_user = 'loglineos_sidecar')
    execute function ledger.follow_version('engine');

comment on trigger universal_registry_before_insert_2_follow_engine on ledger.universal_registry is
    'A later version must follow the one before it; the engine''s own transitions.';

create trigger universal_registry_before_insert_3_call
    before insert on ledger.universal_registry
    for each row
    when (new.seq = 0 and new.entity_type = 'request' and current_user <> 'loglineos_sidecar')
    execute function ledger.check_call();

comment on trigger universal_registry_before_insert_3_call on ledger.universal_registry is
    'A client''s request calls a function that it may call.';

-- Also under session_replication_role = replica, which Supabase lets the owner set.
alter table ledger.universal_registry
    enable always trigger universal_registry_before_insert_1_admit,
    enable always trigger universal_registry_before_insert_2_follow,
    enable always trigger universal_registry_before_insert_2_follow_engine,
    enable always trigger universal_registry_before_insert_3_call;
