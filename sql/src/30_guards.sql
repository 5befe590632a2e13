-- 30 guards: what may be appended, decided before each insert.
--
--     insert ──► 1_admit (as the caller)   who are you, may you write this at all? fills, stamps;
--                                          a client's request: may it call that function (53_call)?
--                                          is the span well-formed (35_shape)?
--            ──► 2_follow (as the owner)   seq > 0: does it follow the version before (31_follow)?
--            ──► policies, checks, primary key
--
-- A row whose (id, seq) is taken passes and meets the primary key, which alone decides, however wrong the
-- row is. Triggers fire before ON CONFLICT does: a guard that raised there would abort the whole batch of
-- a sidecar that comes too late. Hence each guard asks for the existing row before it refuses, and only then.
-- No lock is taken, nothing is notified.

-- Written for speed, since every insert pays for it. Postgres prepares each expression of a trigger anew in
-- each transaction, and there a function or operator costs up to 0.5 microseconds (its right to be executed
-- is looked up), an expression 0.35, a column 0.1; `is null`, `and` and `coalesce` cost next to nothing, and
-- what is not reached costs nothing. Hence few operators, one test of many columns for null, and branches for
-- what only some spans need. A span first meets quick tests that only an ordinary one passes; any other is
-- judged by the whole law: the case below, and shape_fault (35_shape). The quick tests may send too much
-- there, never too little: a test holds both together. What the engine writes for each run is let through
-- by one expression at the very beginning: three such rows stand behind each execution (docs/plans.md).
create or replace function ledger.admit_span()
returns trigger
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_client boolean := current_user = 'authenticated';
    v_is_engine boolean := false;
    v_is_plain boolean;
    v_is_owner boolean := false;
    v_is_definer boolean := false;
    v_is_backend boolean;
    v_is_system_id boolean;
    -- Null: not known to be so.
    v_is_plain_user boolean;
    v_is_ordinary boolean := true;
    v_is_shaped boolean := true;
    -- Not in the range of a double, or nested deeper than 64. (Without its type the literal would be parsed
    -- at each insert, 8 microseconds.)
    c_odd constant jsonpath := jsonpath 'strict $ ? (
        exists (@.** ? (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
            || @ > -5e-324 && @ < 5e-324 && @ != 0))
        || exists (@.**{64} ? (@.type() == "array" || @.type() == "object"))
    )';
    v_claims jsonb;
    v_user text;
    v_tenant text;
    v_may_call boolean;
    v_code text;
    v_fault text;
begin
    if not v_is_client then
        v_is_engine := current_user = 'loglineos_sidecar';
    end if;
    if v_is_engine then
        v_is_plain := num_nulls(
                new.id, new.seq, new.entity_type, new.who, new.at, new.owner_id, new.tenant_id, new.visibility,
                new.is_deleted, new.curr_hash
            ) = 0
            and new.entity_type in ('request', 'execution')
            and (
                new.status in ('scheduled', 'complete', 'running', 'error', 'retry', 'dead', 'blocked', 'cancelled')
            )
            and case
                when new.seq = 0 then new.prev_hash is null
                    and (new.entity_type = 'execution' or new.status = 'scheduled')
                else new.seq > 0
            end
            and new.id >= '00000001-0000-0000-0000-000000000000'
            and new.visibility in ('private', 'tenant', 'public')
            and new.at between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00'
            and (new.scheduled_at not between '2000-01-01 00:00:00+00' and '9000-01-01 00:00:00+00') is not true
            and '' not in (new.who, new.owner_id, new.tenant_id)
            and octet_length(concat(new.who, new.owner_id, new.tenant_id)) <= 200
            and ('' not in (new.trace_id, new.idempotency_key, new.sig_alg, new.sig_key_id)) is not false
            and octet_length(concat(new.trace_id, new.idempotency_key, new.sig_key_id)) <= 256
            and octet_length(concat(new.did, new.this, new.name, new.reason)) <= 1000
            and (octet_length(new.sig_alg) <= 128) is not false
            and (least(new.attempt, new.duration_ms) < 0) is not true
            and octet_length(new.curr_hash) = 64
            and (octet_length(new.prev_hash) <> 64) is not true
            and (new.signature is null or octet_length(new.signature) = 128 and new.public_key is not null)
            and (octet_length(new.public_key) <> 64) is not true
            and concat(new.curr_hash, new.prev_hash, new.public_key, new.signature) ~ '^[0-9a-f]*$'
            and (
                new.related_to is null
                or new.related_to[1] is not null and new.related_to = array[new.related_to[1]]
            )
            and (
                new.confirmed_by, new.if_ok, new.if_doubt, new.if_not, new.description, new.session_id, new.app_id,
                new.device_id, new.schema_id, new.model, new.severity, new.kind, new.version, new.language,
                new.runtime, new.unit, new.links, new.code, new.scopes, new.tags, new.timeout_ms, new.tokens_in,
                new.tokens_out, new.tool_use_count, new.effective_at, new.expires_at, new.ttl_at, new.sensitivity,
                new.layer, new.value, new.cost, new.confidence, new.compiled_hash
            ) is null
            and pg_column_size(new) <= 8192
            and (jsonb_typeof(new.metadata) <> 'object') is not true
            and jsonb_path_exists(new.metadata, jsonpath 'strict $.**{64}') is not true
            and jsonb_path_exists(new.input, jsonpath 'strict $.**{64}') is not true
            and jsonb_path_exists(new.output, jsonpath 'strict $.**{64}') is not true
            and jsonb_path_exists(new.error, jsonpath 'strict $.**{64}') is not true
            and jsonb_path_exists(new.content, jsonpath 'strict $.**{64}') is not true
            -- Numbers whose text is short are not odd, whatever else there is.
            and octet_length(concat(
                jsonb_path_query_array(new.metadata, jsonpath 'strict $.** ? (@.type() == "number")'),
                jsonb_path_query_array(new.input, jsonpath 'strict $.** ? (@.type() == "number")'),
                jsonb_path_query_array(new.output, jsonpath 'strict $.** ? (@.type() == "number")'),
                jsonb_path_query_array(new.error, jsonpath 'strict $.** ? (@.type() == "number")'),
                jsonb_path_query_array(new.content, jsonpath 'strict $.** ? (@.type() == "number")')
            )) <= 300
            and octet_length(concat(new.metadata, new.input, new.output, new.error, new.content)) <= 131072;
        if v_is_plain then
            new.accepted_at := statement_timestamp();
            new.xact := pg_catalog.pg_current_xact_id();
            return new;
        end if;
    end if;

    if new.curr_hash is not null then
        if num_nulls(
            new.id, new.seq, new.who, new.at, new.owner_id, new.tenant_id, new.visibility, new.is_deleted
        ) > 0 then
            v_code := 'LL016';
        end if;
    end if;

    -- Who asks (10_identity). service_role acts for others; it needs a user only to be filled in. A login
    -- that is a member of authenticated and has not set the role is a client too, but not the quick way.
    if v_is_client or not v_is_engine and (
        current_user <> 'service_role' or (new.owner_id is null or new.tenant_id is null or new.who is null)
    ) then
        begin
            v_claims := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
        exception
            when data_exception or program_limit_exceeded then
                v_claims := null;
        end;
        if jsonb_path_exists(v_claims, 'strict $ ? (
            @.sub.type() == "string" && @.sub != "" && @.sub != "system"
            && @.app_metadata.tenant_id.type() == "string"
            && @.app_metadata.tenant_id != "" && @.app_metadata.tenant_id != "system"
        )') then
            v_is_plain_user := v_is_client;
            v_user := v_claims ->> 'sub';
            v_tenant := v_claims #>> '{app_metadata,tenant_id}';
        else
            v_user := jsonb_path_query_first(
                v_claims -> 'sub', 'strict $ ? (@.type() == "string" && @ != "")'
            ) #>> '{}';
            v_tenant := jsonb_path_query_first(
                coalesce(v_claims #> '{app_metadata,tenant_id}', v_claims -> 'tenant_id'),
                'strict $ ? (@.type() == "string" && @ != "")'
            ) #>> '{}';
        end if;
    end if;

    -- The database's own columns, whatever was sent; then what is absent. What is stated is looked at.
    new.accepted_at := statement_timestamp();
    new.xact := pg_catalog.pg_current_xact_id();
    if v_is_plain_user and (
        new.seq, new.who, new.at, new.owner_id, new.tenant_id, new.visibility, new.is_deleted
    ) is null then
        new.seq := 0;
        new.who := 'user:' || v_user;
        new.at := current_timestamp;
        new.owner_id := v_user;
        new.tenant_id := v_tenant;
        new.visibility := 'private';
        new.is_deleted := false;
    else
        new.seq := coalesce(new.seq, 0);
        new.is_deleted := coalesce(new.is_deleted, false);
        new.owner_id := coalesce(new.owner_id, v_user);
        new.tenant_id := coalesce(new.tenant_id, v_tenant);
        if new.who is null and not v_is_engine then
            new.who := coalesce('user:' || v_user, 'client:' || current_user);
        end if;
        new.visibility := coalesce(new.visibility, 'private');
        new.at := coalesce(new.at, current_timestamp);
        v_is_shaped := '' not in (new.who, new.owner_id, new.tenant_id)
            and new.visibility in ('private', 'tenant', 'public')
            and new.at between current_timestamp - interval '30 days'
                and current_timestamp + interval '5 minutes';
        v_is_ordinary := v_is_shaped and new.visibility <> 'public' and new.seq >= 0 and case
            when v_is_engine then new.who is not null
            else v_is_plain_user and (new.owner_id, new.tenant_id, new.who)
                = (v_user, v_tenant, 'user:' || v_user)
        end;
    end if;
    if new.id is not null then
        -- Version 4 or 7, and no system id.
        if new.id < '00000001-0000-0000-0000-000000000000'
            or not v_is_engine and substr(new.id::text, 15, 1) not in ('4', '7')
        then
            v_is_ordinary := false;
        end if;
    elsif new.idempotency_key is not null then
        -- A repeated insert meets the primary key.
        new.id := case
            when new.seq <> 0 or char_length(new.idempotency_key) not between 1 and 256
                then ledger.uuid7()
            else ledger.idempotency_id(new.tenant_id, new.idempotency_key)
        end;
    else
        -- ledger.uuid7(), without the call.
        new.id := concat(
            '0', to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint),
            '7', right(gen_random_uuid()::text, 21)
        )::uuid;
    end if;

    -- What states how long it lives says until when: the ttl_reaper goes by ttl_at alone. Ten years at most. A
    -- hashed row states all that it has.
    if new.ttl_at is null and new.curr_hash is null and new.metadata is not null
        and new.entity_type = 'prompt_block'
    then
        if jsonb_typeof(new.metadata -> 'ttl_minutes') = 'number'
            and new.at between '0001-01-01 00:00:00+00' and '9000-01-01 00:00:00+00'
        then
            new.ttl_at := new.at + least(
                greatest((new.metadata ->> 'ttl_minutes')::numeric, 0), 5256000
            )::double precision * interval '1 minute';
        end if;
    end if;

    if v_is_engine then
        v_is_ordinary := v_is_ordinary and v_code is null and new.prev_hash is null
            and new.owner_id is not null and new.tenant_id is not null
            and new.entity_type <> all ('{request, function, policy, provider, manifest, key}');
    else
        v_is_ordinary := v_is_ordinary and v_code is null
            and (new.prev_hash, new.policy_id, new.attempt) is null
            and new.entity_type <> all ('{
                request, function, policy, provider, manifest, key, execution, boot_event, policy_cursor,
                policy_error, policy_violation, checkpoint, incident, epoch, metric, status_patch,
                provider_execution
            }')
            and (new.metadata ? 'engine') is not true;
    end if;
    if v_is_ordinary is not true and v_code is null then
        if not (v_is_engine or v_is_client or current_user = 'service_role') then
            v_is_owner := exists (
                select
                from pg_catalog.pg_class as c
                where c.oid = tg_relid
                    and pg_catalog.pg_get_userbyid(c.relowner) = current_user
            );
            -- Who came here through a definer function of the owner's is no owner: the role that was set is
            -- still in sight. He acts for others, as a backend does.
            v_is_definer := v_is_owner and not pg_catalog.pg_has_role(
                coalesce(nullif(current_setting('role', true), 'none'), session_user), current_user, 'usage'
            );
            v_is_owner := v_is_owner and not v_is_definer;
        end if;
        v_is_backend := v_is_definer or current_user = 'service_role';
        v_is_system_id := new.id between '00000000-0000-4000-8000-000000000000'
            and '00000000-0000-4000-8000-ffffffffffff';
        v_code := case
            when num_nulls(new.owner_id, new.tenant_id) > 0 then 'LL005'
            when num_nulls(new.entity_type, new.who) > 0 or new.seq < 0 then 'LL017'
            when new.seq = 0 and new.prev_hash is not null then 'LL014'
            when v_is_engine then case
                when new.entity_type in ('manifest', 'key')
                    or new.tenant_id = 'system' and new.entity_type in ('function', 'policy', 'provider')
                    then 'LL004'
                when new.seq = 0 and v_is_system_id then 'LL007'
            end
            -- A backend and the owner act for others and state whom; everybody else is who he is.
            when not v_is_owner and not v_is_backend and (
                v_user is null or v_tenant is null
            ) then 'LL005'
            when not v_is_owner and (
                new.owner_id = 'system' or new.tenant_id = 'system'
                or not v_is_backend
                    and (new.owner_id <> v_user or new.tenant_id <> v_tenant)
            ) and not (new.owner_id = 'system' and new.tenant_id = 'system') then 'LL006'
            when new.entity_type in (
                'execution', 'boot_event', 'policy_cursor', 'policy_error', 'policy_violation',
                'checkpoint', 'incident', 'epoch', 'metric', 'status_patch', 'provider_execution'
            ) then 'LL004'
            -- A later version of what the engine derived is its owner's affair (2_follow).
            when new.seq = 0 and substr(new.id::text, 15, 1) = '8'
                or new.id in (
                    '00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'
                ) then 'LL007'
            -- They are known to all: what does not govern would be taken for what does, or stand in its way.
            when new.seq = 0 and v_is_system_id and (
                new.tenant_id <> 'system'
                or new.entity_type not in ('manifest', 'key', 'function', 'policy', 'provider')
                    and not starts_with(new.entity_type, 'prompt_')
            ) then 'LL007'
            -- An idempotency key's id can be foretold: it is for that tenant and that key.
            when not v_is_owner and not v_is_backend and new.seq = 0
                and substr(new.id::text, 15, 1) = '5'
                and new.id is distinct from case
                    when char_length(new.idempotency_key) between 1 and 256
                        then ledger.idempotency_id(new.tenant_id, new.idempotency_key)
                end then 'LL007'
            -- Up to its colon a who is plain ASCII: nothing may look like a role that it is not.
            when new.who !~ '^($|[A-Za-z0-9][ -~]*(:|$))'
                or new.who collate "C" ~* '^(kernel|policy|sidecar)($|[^a-z0-9])'
                or not v_is_owner and not v_is_backend and new.who <> 'user:' || v_user
                    and new.who collate "C" ~* '^user($|[^a-z0-9])'
                then 'LL008'
            when new.metadata ? 'engine' or num_nonnulls(new.policy_id, new.attempt) > 0 then 'LL009'
            when not v_is_owner
                and new.at not between now() - interval '30 days' and now() + interval '5 minutes'
                then 'LL011'
            when new.seq > 0 and new.entity_type = 'request'
                and coalesce(new.status, '') not in ('cancel_requested', 'scheduled')
                then 'LL003'
            -- What the governing right allows. It is asked for below, once and by few.
            when v_is_owner then null
            when new.owner_id = 'system' then '?LL006'
            when new.entity_type in ('manifest', 'key') then '?LL004'
            when v_is_system_id then '?LL007'
            when new.who collate "C" ~* '^system($|[^a-z0-9])' then '?LL008'
            when new.visibility = 'public' then '?LL010'
        end;
        if v_code like '?%' then
            v_code := case
                when ledger.is_governor() then null
                when v_code = '?LL010'
                    and ledger_private.may_publish(new.owner_id, new.tenant_id, new.entity_type)
                    then null
                else ltrim(v_code, '?')
            end;
        end if;
        -- How a life begins. What is not named here begins as it likes.
        if v_code is null and new.seq = 0 then
            v_code := case when case new.entity_type
                when 'request' then new.status = 'scheduled'
                when 'function' then new.status in ('draft', 'active')
                    or new.status = 'scheduled' and new.tenant_id <> 'system'
                when 'policy' then new.status in ('draft', 'active')
                when 'provider' then new.status in ('draft', 'active')
                when 'manifest' then new.status in ('draft', 'active')
                when 'key' then new.status in ('draft', 'active')
                else true
            end is not true then 'LL003' end;
        end if;
        -- Judged for the request's owner: service_role can not call what he could not call.
        if v_code is null and new.seq = 0 and new.entity_type = 'request' and not v_is_engine then
            if v_is_owner or v_is_definer then
                v_may_call := ledger.is_callable(new.parent_id, new.owner_id, new.tenant_id);
            else
                v_may_call := ledger_private.may_call(new.parent_id, new.owner_id, new.tenant_id);
            end if;
            v_code := case when v_may_call is not true then 'LL015' end;
        end if;
    end if;

    -- Is it well-formed? The columns of an ordinary span; then the others, for those that have one of them.
    -- Numbers are looked at before JSON becomes text, and only 8 KiB of it do here (35_shape).
    if v_code is null and v_is_shaped then
        v_is_shaped := concat(new.entity_type, ' ', coalesce(new.status, 'none'))
                ~ '^[a-z][a-z0-9_.-]* [A-Za-z][A-Za-z0-9_.-]*$'
            and octet_length(concat(new.entity_type, new.status)) <= 63
            and octet_length(concat(new.who, new.owner_id, new.tenant_id)) <= 200
            and octet_length(concat(new.did, new.this, new.name)) <= 1000
            and (new.metadata is null or new.metadata @> '{}');
        -- An odd number has more than 300 characters as text, 65 levels have 130; so what is shorter is
        -- neither. Of 512 bytes, text of 4 MB can be made at most.
        if pg_column_size(new) <= 512 and octet_length(concat(new.metadata, new.content)) < 130 then
            null;
        else
            v_is_shaped := v_is_shaped
                and pg_column_size(new) <= 8192
                and jsonb_path_exists(new.metadata, c_odd) is not true
                and jsonb_path_exists(new.content, c_odd) is not true
                and octet_length(concat(new.metadata, new.content)) <= 131072
                and concat(new.metadata, new.content) !~ '[.][0-9]{200}[0-9]{201}';
        end if;
    end if;
    if v_code is null and v_is_shaped and not (
        new.confirmed_by, new.if_ok, new.if_doubt, new.if_not, new.reason, new.description,
        new.trace_id, new.session_id, new.idempotency_key, new.app_id, new.device_id, new.schema_id,
        new.model, new.sig_key_id, new.severity, new.kind, new.version, new.language, new.runtime,
        new.unit, new.sig_alg, new.links, new.code, new.input, new.output, new.error, new.related_to,
        new.scopes, new.tags, new.timeout_ms, new.attempt, new.duration_ms, new.tokens_in,
        new.tokens_out, new.tool_use_count, new.scheduled_at, new.effective_at, new.expires_at,
        new.ttl_at, new.sensitivity, new.layer, new.value, new.cost, new.confidence, new.compiled_hash,
        new.prev_hash, new.curr_hash, new.public_key, new.signature
    ) is null then
        if v_is_shaped and num_nonnulls(
            new.confirmed_by, new.if_ok, new.if_doubt, new.if_not, new.reason, new.description,
            new.trace_id, new.session_id, new.idempotency_key, new.app_id, new.device_id, new.schema_id,
            new.model, new.sig_key_id, new.severity, new.kind, new.version, new.language, new.runtime,
            new.unit, new.sig_alg
        ) > 0 then
            v_is_shaped := ('' not in (
                    new.trace_id, new.session_id, new.idempotency_key, new.app_id, new.device_id,
                    new.schema_id, new.model, new.sig_key_id, new.severity, new.kind, new.version,
                    new.language, new.runtime, new.unit, new.sig_alg
                )) is not false
                and octet_length(concat(
                    new.trace_id, new.session_id, new.idempotency_key, new.app_id, new.device_id,
                    new.schema_id, new.model, new.sig_key_id
                )) <= 256
                and octet_length(concat(
                    new.severity, new.kind, new.version, new.language, new.runtime, new.unit, new.sig_alg
                )) <= 128
                and octet_length(concat(
                    new.confirmed_by, new.if_ok, new.if_doubt, new.if_not, new.reason, new.description
                )) <= 1000;
        end if;
        if v_is_shaped and num_nonnulls(
            new.links, new.code, new.input, new.output, new.error, new.related_to, new.scopes, new.tags,
            new.timeout_ms, new.attempt, new.duration_ms, new.tokens_in, new.tokens_out, new.tool_use_count
        ) > 0 then
            v_is_shaped := (new.timeout_ms not between 1 and 86400000) is not true
                and (least(
                    new.attempt, new.duration_ms, new.tokens_in, new.tokens_out, new.tool_use_count
                ) < 0) is not true
                -- An element takes two characters at least.
                and octet_length(concat(new.related_to, new.scopes, new.tags)) <= 2000
                and concat(new.related_to, new.scopes, new.tags) !~ 'NULL|[{][{]|[]]=[{]'
                and jsonb_path_exists(new.links, c_odd) is not true
                and jsonb_path_exists(new.input, c_odd) is not true
                and jsonb_path_exists(new.output, c_odd) is not true
                and jsonb_path_exists(new.error, c_odd) is not true
                and (new.links is null or new.links @> '{}')
                and octet_length(concat(new.links, new.code, new.input, new.output, new.error)) <= 131072
                and concat(new.links, new.input, new.output, new.error) !~ '[.][0-9]{200}[0-9]{201}';
        end if;
        if v_is_shaped and num_nonnulls(
            new.scheduled_at, new.effective_at, new.expires_at, new.ttl_at, new.sensitivity, new.layer,
            new.value, new.cost, new.confidence, new.compiled_hash, new.prev_hash, new.curr_hash,
            new.public_key, new.signature
        ) > 0 then
            v_is_shaped := num_nonnulls(new.sensitivity, new.layer, new.value, new.cost, new.confidence) = 0
                and (least(
                    new.scheduled_at, new.effective_at, new.expires_at, new.ttl_at
                ) < '0001-01-01 00:00:00+00') is not true
                and (greatest(
                    new.scheduled_at, new.effective_at, new.expires_at, new.ttl_at
                ) >= '10000-01-01 00:00:00+00') is not true
                and concat(
                    new.compiled_hash, new.prev_hash, new.curr_hash, new.public_key, new.signature
                ) ~ '^[0-9a-f]*$'
                and (octet_length(new.compiled_hash) <> 64) is not true
                and (octet_length(new.prev_hash) <> 64) is not true
                and (octet_length(new.curr_hash) <> 64) is not true
                and (octet_length(new.public_key) <> 64) is not true
                and (octet_length(new.signature) <> 128) is not true
                and (new.signature is null or new.curr_hash is not null and new.public_key is not null);
        end if;
    end if;
    if v_code is null and v_is_shaped is not true then
        v_fault := ledger_private.shape_fault(new);
        v_code := case when v_fault is not null then 'LL017' end;
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
                    and v_code not in ('LL005', 'LL006')
            )
    ) then
        return new;
    end if;
    if v_code = 'LL017' then
        v_fault := case
            when new.entity_type is null then 'entity_type: state one, for example note'
            when new.who is null then 'who: state one, for example client:<name>'
            when new.seq < 0 then 'seq: versions count from 0'
            else v_fault
        end;
        perform ledger_private.refuse_shape(v_fault);
    end if;
    perform ledger_private.refuse_span(v_code, new);
end
$$;

comment on function ledger.admit_span() is
    'Decides by current_user whether this role may append this span at all, fills what it left out, '
    'and stamps accepted_at and xact.';

create or replace function ledger.is_callable(p_function_id uuid, p_owner_id text, p_tenant_id text)
returns boolean
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select
            f.entity_type = 'function'
            and not f.is_deleted
            and coalesce(f.status, '') not in ('archived', 'revoked')
            and (
                f.owner_id = p_owner_id and f.tenant_id = p_tenant_id
                or f.visibility = 'tenant' and f.tenant_id = p_tenant_id
                or f.visibility = 'public'
            )
        from ledger.universal_registry as f
        where f.id = p_function_id
        order by f.seq desc
        limit 1
    );
end
$$;

comment on function ledger.is_callable(uuid, text, text) is
    'Whether the newest version of a span is a function, in use, that this user may read by the rules '
    'of 50_access. Null: no such span. Not granted: for ledger_private.may_call.';

create or replace trigger universal_registry_before_insert_1_admit
    before insert on ledger.universal_registry
    for each row
    execute function ledger.admit_span();

comment on trigger universal_registry_before_insert_1_admit on ledger.universal_registry is
    'Who may write what; fills and stamps. First.';

-- Also under session_replication_role = replica, which Supabase lets the owner set.
alter table ledger.universal_registry
    enable always trigger universal_registry_before_insert_1_admit;
