-- LogLineOS 0.1.0 to 0.2.0.
-- Generated from sql/src by scripts/sqlbuild. Do not edit.
\echo Use "alter extension loglineos update" to load this file. \quit

-- 0.1.0 to 0.2.0: what the body does not replace by itself. Breaks nothing. Locks the ledger.

-- Everybody who reads or writes waits until this is through, and is then guarded by the new rules. A
-- lock at a time would deadlock with those who hold one and want the next, so it is all or, for a moment,
-- none.
do $lock$
declare
    v_lock_timeout text := current_setting('lock_timeout');
begin
    if to_regclass('ledger.universal_registry') is null then
        return;
    end if;
    for v_attempt in 1..100 loop
        begin
            set local lock_timeout = '300ms';
            lock table ledger.universal_registry, ledger.visible_timeline, ledger.history
                in access exclusive mode;
            perform set_config('lock_timeout', v_lock_timeout, true);
            return;
        exception
            when lock_not_available or deadlock_detected then
                perform pg_sleep(random() * 0.2);
        end;
    end loop;
    raise exception using
        message = 'the ledger is in use: no moment to change it was found in a minute',
        hint = 'End long transactions (select pid, xact_start, query from pg_stat_activity order by '
            'xact_start) and run it again.';
end
$lock$;

-- Made anew by the body, because a view's columns and a function's parameters can not be changed in place.

-- 00 schemas: where things live.

create schema if not exists ledger;

comment on schema ledger is
    'The append-only truth of LogLineOS: one table of spans, its views, its accessors. Exposed to clients.';

create schema if not exists engine;

comment on schema engine is
    'Working memory of the sidecar: cursors, leases, counters. Disposable: rebuilt from the ledger. '
    'Never exposed.';

create schema if not exists ledger_private;

comment on schema ledger_private is
    'What views and guards need of the owner''s rights. Never exposed; nothing in it is for clients to '
    'call by name.';

-- Nothing in here is for everybody. What a role gets, it gets by name in 50_access.
revoke all on schema ledger from public;
revoke all on schema ledger_private from public;
revoke all on schema engine from public;

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

-- 10 identity: who is asking. Everything else asks here.
--
-- Identity is what the API verified and put into request.jwt.claims. A setting is '' and not null
-- once a transaction of a pooled session has used it, hence nullif everywhere. app.user_id and
-- app.tenant_id are believed of the sidecar's own roles only: a client can set any setting.

create or replace function ledger.current_user_id()
returns text
language plpgsql
stable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return nullif(current_setting('app.user_id', true), '');
    end if;
    return nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '');
end
$$;

comment on function ledger.current_user_id() is
    'The caller''s user: the claim sub of the verified token; for the sidecar''s roles app.user_id. '
    'Null without.';

create or replace function ledger.current_tenant_id()
returns text
language plpgsql
stable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_claims jsonb;
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return nullif(current_setting('app.tenant_id', true), '');
    end if;
    -- Never user_metadata: users write that themselves.
    v_claims := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    return coalesce(
        nullif(v_claims -> 'app_metadata' ->> 'tenant_id', ''),
        nullif(v_claims ->> 'tenant_id', '')
    );
end
$$;

comment on function ledger.current_tenant_id() is
    'The caller''s tenant: the claim app_metadata.tenant_id, else tenant_id; for the sidecar''s roles '
    'app.tenant_id. Null without.';

create or replace function ledger.is_governor()
returns boolean
language plpgsql
stable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return false;
    end if;
    if nullif(current_setting('request.jwt.claims', true), '')::jsonb
        -> 'app_metadata' ->> 'logline_role' = 'governor'
    then
        return true;
    end if;
    return exists (
        select
        from pg_catalog.pg_class
        where oid = 'ledger.universal_registry'::regclass
            and pg_catalog.pg_get_userbyid(relowner) = current_user
    );
end
$$;

comment on function ledger.is_governor() is
    'Whether the caller has the governing right: the claim app_metadata.logline_role = governor, or '
    'the login that owns the ledger. service_role alone has not.';

-- 15 uuid7: ids that sort by time (RFC 9562 §5.7). Postgres 18 has one built in; 15 to 17 have not.

create or replace function ledger.uuid7()
returns uuid
language plpgsql
volatile
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    -- 48 bits of Unix milliseconds over a version 4 UUID; then its version nibble 0100 becomes 0111.
    return encode(
        set_bit(
            set_bit(
                overlay(
                    uuid_send(gen_random_uuid())
                    placing substring(
                        int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint)
                        from 3
                    )
                    from 1 for 6
                ),
                52, 1
            ),
            53, 1
        ),
        'hex'
    )::uuid;
end
$$;

comment on function ledger.uuid7() is
    'A new version 7 UUID: 48 bits of Unix milliseconds, then 74 random bits. The id of a span that '
    'states none.';

-- 16 uuid5: the id that a tenant's idempotency key stands for (RFC 9562 §5.5).
--
-- Anybody can compute it with a library of his own: the namespace is the tenant itself where that is a
-- UUID. Postgres has no SHA-1 in its core, and where pgcrypto is, differs: so it is written out here,
-- for names and never for proofs.

create or replace function ledger_private.sha1(p_message bytea)
returns bytea
language plpgsql
immutable
strict
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    c_mask constant bigint := 4294967295;
    v_length constant integer := length(p_message);
    v_padded bytea := p_message || '\x80'
        || decode(repeat('00', (119 - v_length % 64) % 64), 'hex')
        || int8send(v_length::bigint * 8);
    v_state bigint[] := array[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
    v_words bigint[];
    v_word bigint;
    a bigint;
    b bigint;
    c bigint;
    d bigint;
    e bigint;
begin
    for v_block in 0 .. length(v_padded) / 64 - 1 loop
        a := v_state[1];
        b := v_state[2];
        c := v_state[3];
        d := v_state[4];
        e := v_state[5];
        for i in 0 .. 79 loop
            if i < 16 then
                v_word := ('x' || encode(
                    substring(v_padded from v_block * 64 + i * 4 + 1 for 4), 'hex'
                ))::bit(32)::bigint & c_mask;
            else
                v_word := v_words[i - 3] # v_words[i - 8] # v_words[i - 14] # v_words[i - 16];
                v_word := ((v_word << 1) | (v_word >> 31)) & c_mask;
            end if;
            v_words[i] := v_word;
            v_word := v_word + e + (((a << 5) | (a >> 27)) & c_mask) + case
                when i < 20 then ((b & c) | (~b & d)) + 1518500249
                when i < 40 then (b # c # d) + 1859775393
                when i < 60 then ((b & c) | (b & d) | (c & d)) + 2400959708
                else (b # c # d) + 3395469782
            end;
            e := d;
            d := c;
            c := ((b << 30) | (b >> 2)) & c_mask;
            b := a;
            a := v_word & c_mask;
        end loop;
        v_state := array[
            v_state[1] + a & c_mask, v_state[2] + b & c_mask, v_state[3] + c & c_mask,
            v_state[4] + d & c_mask, v_state[5] + e & c_mask
        ];
    end loop;
    return substring(int8send(v_state[1]) from 5) || substring(int8send(v_state[2]) from 5)
        || substring(int8send(v_state[3]) from 5) || substring(int8send(v_state[4]) from 5)
        || substring(int8send(v_state[5]) from 5);
end
$$;

comment on function ledger_private.sha1(bytea) is
    'SHA-1 (RFC 3174), 20 bytes. For ids only.';

create or replace function ledger_private.uuid5(p_namespace uuid, p_name text)
returns uuid
language plpgsql
immutable
strict
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bytes bytea := ledger_private.sha1(uuid_send(p_namespace) || convert_to(p_name, 'UTF8'));
begin
    -- Version 5 and the variant take the place of six bits; 16 of the 20 bytes stay.
    v_bytes := set_byte(v_bytes, 6, (get_byte(v_bytes, 6) & 15) | 80);
    v_bytes := set_byte(v_bytes, 8, (get_byte(v_bytes, 8) & 63) | 128);
    return encode(substring(v_bytes from 1 for 16), 'hex')::uuid;
end
$$;

comment on function ledger_private.uuid5(uuid, text) is
    'The version 5 UUID of a name in a namespace; the name in UTF-8.';

create or replace function ledger.idempotency_id(p_tenant_id text, p_key text)
returns uuid
language plpgsql
immutable
strict
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A hash costs time: nobody's key is so long (35_shape).
    if char_length(p_tenant_id) > 200 or char_length(p_key) not between 1 and 256 then
        raise exception using
            errcode = 'LL017',
            message = 'the span is malformed: column idempotency_key: 1 to 256 characters',
            hint = 'Shorten idempotency_key, for example to a UUID, and name your own tenant.';
    end if;
    -- Lower case, since tenants are compared as text; not version 5, since those are the namespaces of
    -- the tenants that are no UUID: so no tenant can take a name that gives it another's ids.
    if p_tenant_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-46-9a-f][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$' then
        return ledger_private.uuid5(p_tenant_id::uuid, p_key);
    end if;
    return ledger_private.uuid5(
        -- UUIDv5 of https://github.com/loglineos/loglineos in the namespace of URLs.
        ledger_private.uuid5('05e24595-4bbb-57e4-810f-6d85f953de6c', p_tenant_id), p_key
    );
end
$$;

comment on function ledger.idempotency_id(text, text) is
    'The id of the span that a tenant''s idempotency_key stands for: UUIDv5(tenant_id, key). The tenant '
    'is the namespace where it is a UUID in lower case, of any version but 5; else the namespace is '
    'UUIDv5(05e24595-4bbb-57e4-810f-6d85f953de6c, tenant_id). Keys are a tenant''s own: two of its '
    'users who state one key mean one span.';

revoke all on function
    ledger_private.sha1(bytea), ledger_private.uuid5(uuid, text), ledger.idempotency_id(text, text)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function
    ledger_private.sha1(bytea), ledger_private.uuid5(uuid, text), ledger.idempotency_id(text, text)
    to authenticated, service_role, loglineos_sidecar;

-- 20 registry: the table. Everything that exists or happens is one row of it.
--
-- The column order is the order of the public contract and never changes; sidecar/span reads by it.
-- A sparse column costs one bit.
--
-- The defaults are null on purpose. A real one would hide from the trigger (30_guards) whether the
-- caller stated the column, and a row that states its hash must state everything that is hashed.
-- They are there because type generators and PostgREST read from them that a column may be left out;
-- the trigger fills it.
--
-- Checks are few on purpose as well: Postgres reads each one anew for every statement, which took
-- 2.6 microseconds a check, and sixty of them cost three times what the insert itself does. So
-- only the fence is checked here, and all sizes and formats by one trigger (35_shape), which also says
-- which column it is and what its limit.

create table if not exists ledger.universal_registry (
    id uuid not null default nullif(null::uuid, null),
    seq integer not null default nullif(null::integer, null),
    entity_type text not null,
    who text not null default nullif(null::text, null),
    did text,
    this text,
    at timestamptz not null default nullif(null::timestamptz, null),
    confirmed_by text,
    if_ok text,
    if_doubt text,
    if_not text,
    xact xid8 not null default nullif(null::xid8, null),
    accepted_at timestamptz not null default nullif(null::timestamptz, null),
    scheduled_at timestamptz,
    effective_at timestamptz,
    expires_at timestamptz,
    ttl_at timestamptz,
    parent_id uuid,
    related_to uuid[],
    links jsonb,
    trace_id text,
    session_id text,
    idempotency_key text,
    policy_id uuid,
    owner_id text not null default nullif(null::text, null),
    tenant_id text not null default nullif(null::text, null),
    visibility text not null default nullif(null::text, null),
    sensitivity text,
    scopes text[],
    app_id text,
    device_id text,
    status text,
    is_deleted boolean not null default nullif(null::boolean, null),
    reason text,
    priority integer,
    severity text,
    attempt integer,
    name text,
    description text,
    kind text,
    version text,
    tags text[],
    layer text,
    schema_id text,
    content jsonb,
    code text,
    language text,
    runtime text,
    timeout_ms integer,
    input jsonb,
    output jsonb,
    error jsonb,
    duration_ms integer,
    value numeric,
    unit text,
    confidence numeric,
    provider_id uuid,
    model text,
    tokens_in integer,
    tokens_out integer,
    cost numeric,
    tool_use_count integer,
    compiled_hash text,
    prev_hash text,
    curr_hash text,
    signature text,
    public_key text,
    sig_alg text,
    sig_key_id text,
    metadata jsonb,
    constraint universal_registry_pkey primary key (id, seq),
    constraint universal_registry_seq_check check (seq >= 0)
);

comment on table ledger.universal_registry is
    'Append-only: one row is one version (id, seq) of one thing. Nothing is ever changed or removed; '
    'the next version is.';

comment on column ledger.universal_registry.id is
    'Identity of the thing; all its versions share it. Absent: a new ledger.uuid7(). Version 8 and '
    'system ids are not for clients. Writer: client or engine.';
comment on column ledger.universal_registry.seq is
    'Version of the thing, from 0, without gaps. Absent: 0. Writer: client or engine.';
comment on column ledger.universal_registry.entity_type is
    'Kind of span, for example function, request, execution, policy. Decides who may write it. Never '
    'changes between versions. Writer: client or engine.';
comment on column ledger.universal_registry.who is
    'Actor, as role:name: user:<id>, client:<name>; kernel:, policy:, sidecar: for the engine, '
    'system: for governors. Absent: user:<sub>. Writer: client or engine.';
comment on column ledger.universal_registry.did is
    'Verb: what the actor did, for example defined, scheduled, executed. Writer: client or engine.';
comment on column ledger.universal_registry.this is
    'Object or topic of the act, for example run_code or memory.note. Writer: client or engine.';
comment on column ledger.universal_registry.at is
    'Event time as the writer claims it; for clients -30 days to +5 minutes of now. Never used for '
    'order. Absent: now. Shown as "when" in the views. Writer: client or engine.';
comment on column ledger.universal_registry.confirmed_by is
    'Who confirmed the act. Writer: client or engine.';
comment on column ledger.universal_registry.if_ok is
    'What follows when the act is confirmed. Writer: client or engine.';
comment on column ledger.universal_registry.if_doubt is
    'What follows in doubt. Writer: client or engine.';
comment on column ledger.universal_registry.if_not is
    'What follows when the act is refused or rolled back. Writer: client or engine.';
comment on column ledger.universal_registry.xact is
    'Inserting transaction: makes catch-up free of gaps. Not part of the hash. Writer: the database, '
    'always.';
comment on column ledger.universal_registry.accepted_at is
    'When the database received the span (its own clock). Not part of the hash. Writer: the database, '
    'always.';
comment on column ledger.universal_registry.scheduled_at is
    'Earliest time to run. Writer: client or engine.';
comment on column ledger.universal_registry.effective_at is
    'When a manifest or kernel version takes force. Writer: governor.';
comment on column ledger.universal_registry.expires_at is
    'When the span stops being valid, for tokens and grants. Writer: client or engine.';
comment on column ledger.universal_registry.ttl_at is
    'When the span may be archived. Writer: client or engine.';
comment on column ledger.universal_registry.parent_id is
    'Direct cause or container; of a request and an execution: the function. Writer: client or engine.';
comment on column ledger.universal_registry.related_to is
    'Other spans that this one is about, at most 1000. Writer: client or engine.';
comment on column ledger.universal_registry.links is
    'Typed relations, an object, for example {"caused_by": …}. Writer: client or engine.';
comment on column ledger.universal_registry.trace_id is
    'Correlation of all spans of one flow. Writer: client or engine.';
comment on column ledger.universal_registry.session_id is
    'Conversation or session. Writer: client or engine.';
comment on column ledger.universal_registry.idempotency_key is
    'The caller''s own name for the act, so that a retry is the same act. Writer: client.';
comment on column ledger.universal_registry.policy_id is
    'Policy that emitted the span. Writer: engine.';
comment on column ledger.universal_registry.owner_id is
    'User that owns the span: the wall of private rows. Absent: the claim sub. Never changes between '
    'versions. Writer: client (own only) or engine.';
comment on column ledger.universal_registry.tenant_id is
    'Tenant of the span: the wall of everything; system is the system''s. Absent: the claim. Never '
    'changes between versions. Writer: client (own only) or engine.';
comment on column ledger.universal_registry.visibility is
    'Who may read it: private (the owner), tenant, public (everybody signed in; needs the governing '
    'right). Absent: private. Writer: client or engine.';
comment on column ledger.universal_registry.sensitivity is
    'How sensitive: public, internal, secret or pii. Writer: client or engine.';
comment on column ledger.universal_registry.scopes is
    'Rights that the span names, at most 1000. Writer: client or engine.';
comment on column ledger.universal_registry.app_id is
    'Application that the span belongs to. Writer: client.';
comment on column ledger.universal_registry.device_id is
    'Device that the span comes from. Writer: client.';
comment on column ledger.universal_registry.status is
    'State of life; which may follow which depends on entity_type (ledger.may_follow). Writer: client '
    'or engine.';
comment on column ledger.universal_registry.is_deleted is
    'Tombstone: this version ends the thing; visible_timeline hides it. Absent: false. Writer: client '
    'or engine.';
comment on column ledger.universal_registry.reason is
    'Why, in words or as a short code. Writer: client or engine.';
comment on column ledger.universal_registry.priority is
    'Order of importance, higher first. Writer: client or engine.';
comment on column ledger.universal_registry.severity is
    'How bad, for alerts and incidents. Writer: client or engine.';
comment on column ledger.universal_registry.attempt is
    'Number of the try, from 1. Writer: engine.';
comment on column ledger.universal_registry.name is
    'Name of the thing. Writer: client or engine.';
comment on column ledger.universal_registry.description is
    'What the thing is for. Writer: client or engine.';
comment on column ledger.universal_registry.kind is
    'Sub-type in its entity_type. Writer: client or engine.';
comment on column ledger.universal_registry.version is
    'Version label of the content, as people write it; the ledger''s own is seq. Writer: client.';
comment on column ledger.universal_registry.tags is
    'Free labels, at most 1000. Writer: client or engine.';
comment on column ledger.universal_registry.layer is
    'Layer of a memory: session, temporary, permanent, shared or local. Writer: client or engine.';
comment on column ledger.universal_registry.schema_id is
    'Contract that content follows. Writer: client or engine.';
comment on column ledger.universal_registry.content is
    'Body: prompt text, memory, document; at most 1 MiB. Writer: client or engine.';
comment on column ledger.universal_registry.code is
    'Source of a function, policy or kernel; at most 256 KiB. Writer: client; of kernels: governor.';
comment on column ledger.universal_registry.language is
    'Language of code: javascript or typescript. Writer: client.';
comment on column ledger.universal_registry.runtime is
    'Runtime that the author had in mind. Writer: client.';
comment on column ledger.universal_registry.timeout_ms is
    'Limit of a run''s JavaScript time, milliseconds. Writer: client.';
comment on column ledger.universal_registry.input is
    'Input of a request or run; at most 1 MiB. Writer: client or engine.';
comment on column ledger.universal_registry.output is
    'Result of a run; at most 1 MiB. Writer: engine.';
comment on column ledger.universal_registry.error is
    'Error of a run: {code, message, line?, column?}. Writer: engine.';
comment on column ledger.universal_registry.duration_ms is
    'How long it took, milliseconds. Writer: engine.';
comment on column ledger.universal_registry.value is
    'Measured value of a metric, in unit. Writer: engine.';
comment on column ledger.universal_registry.unit is
    'Unit of value, for example ms or count. Writer: engine.';
comment on column ledger.universal_registry.confidence is
    'How sure a model was, 0 to 1. Writer: engine.';
comment on column ledger.universal_registry.provider_id is
    'Provider that was called. Writer: client or engine.';
comment on column ledger.universal_registry.model is
    'Model that was called. Writer: client or engine.';
comment on column ledger.universal_registry.tokens_in is
    'Tokens sent to a model, count. Writer: engine.';
comment on column ledger.universal_registry.tokens_out is
    'Tokens received from a model, count. Writer: engine.';
comment on column ledger.universal_registry.cost is
    'Cost of the call; currency in metadata, US dollars without. Writer: engine.';
comment on column ledger.universal_registry.tool_use_count is
    'Tool calls in one turn, count. Writer: engine.';
comment on column ledger.universal_registry.compiled_hash is
    'BLAKE3-256 of a compiled prompt, 64 lower-case hex digits. Writer: engine.';
comment on column ledger.universal_registry.prev_hash is
    'curr_hash of the version before; null when that has none. Filled when absent and curr_hash is '
    'not stated. Writer: client, engine or the database.';
comment on column ledger.universal_registry.curr_hash is
    'BLAKE3-256 of the canonical span, 64 lower-case hex digits. Who states it states every hashed '
    'column. Writer: client or engine.';
comment on column ledger.universal_registry.signature is
    'Ed25519 over the 32 bytes of curr_hash, 128 lower-case hex digits. Not part of the hash. Writer: '
    'client or engine.';
comment on column ledger.universal_registry.public_key is
    'Ed25519 public key of the signer, 64 lower-case hex digits. Writer: client or engine.';
comment on column ledger.universal_registry.sig_alg is
    'Form of the signature: ed25519-blake3-v1. Writer: client or engine.';
comment on column ledger.universal_registry.sig_key_id is
    'Name of the key: did:logline:<hash of the public key>. Writer: client or engine.';
comment on column ledger.universal_registry.metadata is
    'Everything else, an object, at most 256 KiB. The key engine {cause, root, depth, kind} is the '
    'engine''s. Writer: client or engine.';

comment on constraint universal_registry_pkey on ledger.universal_registry is
    'The fence: of two writers of one version, one wins.';
comment on constraint universal_registry_seq_check on ledger.universal_registry is
    'Versions count from 0.';

-- 30 guards: what may be appended, decided before each insert.
--
--     insert ──► 1_admit (as the caller)   who are you, may you write this at all? stamps the row
--            ──► 2_follow (as the owner)   seq > 0: does it follow the version before?
--                                          a client's new request: may it call that function?
--            ──► 3_shape (35_shape)        sizes and formats
--            ──► policies, checks, primary key
--
-- A row whose (id, seq) is taken passes and meets the primary key, which alone decides. Triggers fire
-- before ON CONFLICT does: a guard that raised there would abort the whole batch of a sidecar that
-- comes too late. Hence each guard asks for the existing row before it refuses, and only then.
-- No lock is taken, nothing is notified, and the engine's rows take the shortest way.

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
            else p_after = 'archived'
                or p_before in ('draft', 'active', 'scheduled')
                    and p_after in ('draft', 'active', 'scheduled')
        end
        when p_entity_type in ('policy', 'provider')
            or p_entity_type like 'prompt\_%' and p_before in ('draft', 'active', 'archived')
            then p_after = 'archived'
                or p_before in ('draft', 'active') and p_after in ('draft', 'active')
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

-- Written for speed, since every insert pays for it: Postgres prepares each expression of a trigger
-- anew in each transaction, so few long expressions are cheaper than many short ones, and the words
-- of a refusal are put together only when there is one.
create or replace function ledger.admit_span()
returns trigger
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_engine boolean := current_user = 'loglineos_sidecar';
    v_is_owner boolean := false;
    v_user text;
    v_tenant text;
    v_may_start boolean;
    v_code text;
begin
    if new.curr_hash is not null and num_nulls(
        new.id, new.seq, new.who, new.at, new.owner_id, new.tenant_id, new.visibility, new.is_deleted
    ) > 0 then
        v_code := 'LL016';
    end if;

    -- The database's own columns, whatever was sent; then what is absent.
    new.accepted_at := statement_timestamp();
    new.xact := pg_catalog.pg_current_xact_id();
    if new.id is null then
        new.id := ledger.uuid7();
    end if;
    new.seq := coalesce(new.seq, 0);
    new.at := coalesce(new.at, now());
    new.visibility := coalesce(new.visibility, 'private');
    new.is_deleted := coalesce(new.is_deleted, false);

    if not v_is_engine then
        v_user := ledger.current_user_id();
        v_tenant := ledger.current_tenant_id();
        new.owner_id := coalesce(new.owner_id, v_user);
        new.tenant_id := coalesce(new.tenant_id, v_tenant);
        new.who := coalesce(new.who, 'user:' || v_user, 'client:' || current_user);
        if current_user not in ('authenticated', 'service_role') then
            v_is_owner := exists (
                select
                from pg_catalog.pg_class as c
                where c.oid = tg_relid
                    and pg_catalog.pg_get_userbyid(c.relowner) = current_user
            );
        end if;
    end if;

    v_code := case
        when v_code is not null then v_code
        when num_nulls(new.owner_id, new.tenant_id) > 0 then 'LL005'
        when num_nulls(new.entity_type, new.who) > 0 or new.seq < 0 then 'LL017'
        when new.seq = 0 and new.prev_hash is not null then 'LL014'
        when v_is_engine then case
            when new.entity_type in ('manifest', 'key')
                or new.tenant_id = 'system' and new.entity_type in ('function', 'provider')
                then 'LL004'
        end
        -- service_role and the owner act for others and state whom; everybody else is who he is.
        when not v_is_owner and current_user <> 'service_role' and (
            v_user is null or v_tenant is null
        ) then 'LL005'
        when not v_is_owner and (
            new.owner_id = 'system' or new.tenant_id = 'system'
            or current_user <> 'service_role'
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
        when new.who ~* '^\s*(kernel|policy|sidecar)\s*:' then 'LL008'
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
        when new.id between '00000000-0000-4000-8000-000000000000'
            and '00000000-0000-4000-8000-ffffffffffff' then '?LL007'
        when new.who ~* '^\s*system\s*:' then '?LL008'
        when new.visibility = 'public' then '?LL010'
    end;
    if v_code like '?%' then
        v_code := case when not ledger.is_governor() then ltrim(v_code, '?') end;
    end if;

    -- How a life begins. What is not named here begins as it likes.
    v_may_start := new.seq > 0 or v_code is not null or case new.entity_type
        when 'request' then new.status = 'scheduled'
        when 'function' then new.status in ('draft', 'active')
            or new.status = 'scheduled' and new.tenant_id <> 'system'
        when 'policy' then new.status in ('draft', 'active')
        when 'provider' then new.status in ('draft', 'active')
        when 'manifest' then new.status in ('draft', 'active')
        when 'key' then new.status in ('draft', 'active')
        else true
    end;
    if v_may_start is not true then
        v_code := 'LL003';
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
    raise exception using
        errcode = v_code,
        message = case v_code
            when 'LL003' then new.entity_type || ' may not get status '
                || coalesce(new.status, 'null')
                || case new.seq when 0 then ' in version 0' else ' from anyone but the engine' end
            when 'LL004' then new.entity_type || ' of tenant ' || new.tenant_id
                || ' is not written by this role'
            when 'LL005' then 'the verified token names no user or no tenant, or the span states none'
            when 'LL006' then 'owner_id or tenant_id is not that of the verified token'
            when 'LL007' then 'id ' || new.id
                || ' is a system id, a derived (version 8), the nil or the max id'
            when 'LL008' then 'who "' || left(new.who, 60) || '" is reserved'
            when 'LL009' then 'metadata.engine, policy_id and attempt are written by the engine only'
            when 'LL010' then 'visibility public needs the governing right'
            when 'LL011' then 'at ' || new.at || ' is outside -30 days to +5 minutes of now'
            when 'LL014' then 'version 0 states a prev_hash, but nothing is before it'
            when 'LL016' then 'a span with curr_hash leaves a hashed column to be filled in'
            when 'LL017' then 'the span has no entity_type or no who, or its seq is negative'
        end,
        hint = case v_code
            when 'LL003' then case
                when new.entity_type <> 'request' then
                    'State status draft or active; a function of a tenant may be scheduled, too.'
                when new.seq = 0 then 'State status scheduled.'
                else 'Its owner may append cancel_requested, or scheduled after dead.'
            end
            when 'LL004' then 'Manifest, key and the functions and providers of tenant system need '
                'the claim app_metadata.logline_role = governor; what a run leaves behind is written '
                'by the engine: append a request and let it run.'
            when 'LL005' then 'Sign in with a token that carries sub and app_metadata.tenant_id; '
                'service_role, the owner and the engine state owner_id and tenant_id.'
            when 'LL006' then 'Leave owner_id and tenant_id out: they are filled from the token.'
            when 'LL007' then 'Leave id out, or state a version 7 or version 4 UUID.'
            when 'LL008' then 'Leave who out, or state user:<id> or client:<name>.'
            when 'LL009' then 'Leave the key engine out of metadata, and policy_id and attempt out.'
            when 'LL010' then 'State visibility tenant or private.'
            when 'LL011' then 'Leave at out, mend the clock, or keep the old time in metadata.'
            when 'LL014' then 'Leave prev_hash out.'
            when 'LL016' then 'State id, seq, who, at, owner_id, tenant_id, visibility and '
                'is_deleted, or leave curr_hash out.'
            when 'LL017' then 'State entity_type, for example note, and who, for example '
                'client:<name>; seq counts from 0.'
        end;
end
$$;

comment on function ledger.admit_span() is
    'Decides by current_user whether this role may append this span at all, fills what it left out, '
    'and stamps accepted_at and xact.';

create or replace function ledger.is_callable(p_function_id uuid, p_owner_id text, p_tenant_id text)
returns boolean
language plpgsql
stable
parallel safe
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
    'of 50_access. Null: no such span. Not granted: for follow_version only.';

-- Definer: the version before may be hidden from the caller and must stay hidden, and whether a
-- function is in use is told by its newest version, also where the caller may read an older one only.
-- What comes out is an error that is the same for a missing and for a foreign id.
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
    if new.seq = 0 then
        -- Judged for the request's owner: service_role can not call what he could not call.
        if v_is_engine or ledger.is_callable(new.parent_id, new.owner_id, new.tenant_id) then
            return new;
        end if;
        v_code := 'LL015';
    else
        select p.owner_id, p.tenant_id, p.entity_type, p.status, p.curr_hash, p.parent_id
        into v_previous
        from ledger.universal_registry as p
        where p.id = new.id
            and p.seq = new.seq - 1;
        v_before := v_previous.status;

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
            when 'LL015' then 'parent_id ' || coalesce(new.parent_id::text, 'null')
                || ' is no function that you may call'
            when 'LL016' then 'a span with curr_hash leaves prev_hash to be filled in'
        end,
        hint = case v_code
            when 'LL002' then 'State seq 0 for a new thing, else the newest seq plus 1 of a thing of '
                'your own.'
            when 'LL003' then 'Read the newest version and append one that its life allows '
                '(ledger.may_follow).'
            when 'LL013' then 'Repeat those of the version before; for another thing use another id.'
            when 'LL014' then 'Read that version again; leave prev_hash out when it has no curr_hash.'
            when 'LL015' then 'State as parent_id the id of a function that you can read and that is '
                'not archived.'
            when 'LL016' then 'State prev_hash: the curr_hash of version ' || new.seq - 1 || '.'
        end;
end
$$;

comment on function ledger.follow_version() is
    'Decides whether a version may follow the one before it (no gap; same tenant, owner and type; an '
    'allowed change of status; the right prev_hash) and whether a client''s request may call its '
    'parent.';

create or replace trigger universal_registry_before_insert_1_admit
    before insert on ledger.universal_registry
    for each row
    execute function ledger.admit_span();

comment on trigger universal_registry_before_insert_1_admit on ledger.universal_registry is
    'Who may write what; fills and stamps. First.';

create or replace trigger universal_registry_before_insert_2_follow
    before insert on ledger.universal_registry
    for each row
    when (new.seq > 0 or new.entity_type = 'request')
    execute function ledger.follow_version();

comment on trigger universal_registry_before_insert_2_follow on ledger.universal_registry is
    'A version must follow the one before it, a request must call what its owner may call.';

-- Also under session_replication_role = replica, which Supabase lets the owner set.
alter table ledger.universal_registry
    enable always trigger universal_registry_before_insert_1_admit,
    enable always trigger universal_registry_before_insert_2_follow;

-- 35 shape: sizes, formats, finite times: whatever keeps a span readable for everybody, for ever.
--
-- Two expressions: Postgres prepares each one anew in each transaction that uses it. Null passes a rule.
-- Why this is not sixty checks: 20_registry.

create or replace function ledger.check_shape()
returns trigger
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_broken text;
begin
    -- The columns of an ordinary span.
    v_broken := case
        when new.entity_type !~ '^[a-z][a-z0-9_.-]{0,62}$'
            then 'entity_type: a lower-case word of at most 63 characters'
        when char_length(new.who) not between 1 and 256
            then 'who: 1 to 256 characters'
        when char_length(new.did) > 500
            then 'did: at most 500 characters'
        when char_length(new.this) > 500
            then 'this: at most 500 characters'
        when char_length(new.name) > 500
            then 'name: at most 500 characters'
        when new.at < '0001-01-01 00:00:00+00' or new.at >= '10000-01-01 00:00:00+00'
            then 'at: a finite time in the years 1 to 9999'
        when jsonb_typeof(new.metadata) <> 'object' or pg_column_size(new.metadata) > 262144
            then 'metadata: a JSON object of at most 256 KiB'
        when char_length(new.owner_id) not between 1 and 200
            then 'owner_id: 1 to 200 characters'
        when char_length(new.tenant_id) not between 1 and 200
            then 'tenant_id: 1 to 200 characters'
        when new.visibility not in ('private', 'tenant', 'public')
            then 'visibility: private, tenant or public'
        when new.status !~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'
            then 'status: a word of at most 63 characters'
        when octet_length(new.code) > 262144
            then 'code: at most 256 KiB'
        when pg_column_size(new.input) > 1048576
            then 'input: at most 1 MiB'
    end;
    -- The rest, only for those that have one of them.
    if v_broken is null and num_nonnulls(
            new.confirmed_by, new.if_ok, new.if_doubt, new.if_not, new.reason, new.scheduled_at,
            new.effective_at, new.expires_at, new.ttl_at, new.related_to, new.scopes, new.tags,
            new.links, new.trace_id, new.session_id, new.idempotency_key, new.app_id, new.device_id,
            new.schema_id, new.model, new.sig_key_id, new.sensitivity, new.layer, new.severity,
            new.kind, new.version, new.language, new.runtime, new.unit, new.sig_alg,
            new.description, new.content, new.output, new.error, new.timeout_ms, new.attempt,
            new.duration_ms, new.tokens_in, new.tokens_out, new.tool_use_count, new.value, new.cost,
            new.confidence, new.compiled_hash, new.prev_hash, new.curr_hash, new.public_key,
            new.signature
    ) > 0 then
        v_broken := case
            when char_length(new.confirmed_by) > 500
                then 'confirmed_by: at most 500 characters'
            when char_length(new.if_ok) > 4000
                then 'if_ok: at most 4000 characters'
            when char_length(new.if_doubt) > 4000
                then 'if_doubt: at most 4000 characters'
            when char_length(new.if_not) > 4000
                then 'if_not: at most 4000 characters'
            when char_length(new.reason) > 4000
                then 'reason: at most 4000 characters'
            when new.scheduled_at < '0001-01-01 00:00:00+00' or new.scheduled_at >= '10000-01-01 00:00:00+00'
                then 'scheduled_at: a finite time in the years 1 to 9999'
            when new.effective_at < '0001-01-01 00:00:00+00' or new.effective_at >= '10000-01-01 00:00:00+00'
                then 'effective_at: a finite time in the years 1 to 9999'
            when new.expires_at < '0001-01-01 00:00:00+00' or new.expires_at >= '10000-01-01 00:00:00+00'
                then 'expires_at: a finite time in the years 1 to 9999'
            when new.ttl_at < '0001-01-01 00:00:00+00' or new.ttl_at >= '10000-01-01 00:00:00+00'
                then 'ttl_at: a finite time in the years 1 to 9999'
            when cardinality(new.related_to) > 1000
                or array_ndims(new.related_to) > 1
                or array_position(new.related_to, null) is not null
                then 'related_to: one dimension, no nulls, at most 1000 ids'
            when pg_column_size(new.scopes) > 65536
                or cardinality(new.scopes) > 1000
                or array_ndims(new.scopes) > 1
                or array_position(new.scopes, null) is not null
                then 'scopes: one dimension, no nulls, at most 1000 and 64 KiB'
            when pg_column_size(new.tags) > 65536
                or cardinality(new.tags) > 1000
                or array_ndims(new.tags) > 1
                or array_position(new.tags, null) is not null
                then 'tags: one dimension, no nulls, at most 1000 and 64 KiB'
            when jsonb_typeof(new.links) <> 'object' or pg_column_size(new.links) > 262144
                then 'links: a JSON object of at most 256 KiB'
            when char_length(new.trace_id) not between 1 and 256
                then 'trace_id: 1 to 256 characters'
            when char_length(new.session_id) not between 1 and 256
                then 'session_id: 1 to 256 characters'
            when char_length(new.idempotency_key) not between 1 and 256
                then 'idempotency_key: 1 to 256 characters'
            when char_length(new.app_id) not between 1 and 256
                then 'app_id: 1 to 256 characters'
            when char_length(new.device_id) not between 1 and 256
                then 'device_id: 1 to 256 characters'
            when char_length(new.schema_id) not between 1 and 256
                then 'schema_id: 1 to 256 characters'
            when char_length(new.model) not between 1 and 256
                then 'model: 1 to 256 characters'
            when char_length(new.sig_key_id) not between 1 and 256
                then 'sig_key_id: 1 to 256 characters'
            when new.sensitivity not in ('public', 'internal', 'secret', 'pii')
                then 'sensitivity: public, internal, secret or pii'
            when new.layer not in ('session', 'temporary', 'permanent', 'shared', 'local')
                then 'layer: session, temporary, permanent, shared or local'
            when char_length(new.severity) not between 1 and 128
                then 'severity: 1 to 128 characters'
            when char_length(new.kind) not between 1 and 128
                then 'kind: 1 to 128 characters'
            when char_length(new.version) not between 1 and 128
                then 'version: 1 to 128 characters'
            when char_length(new.language) not between 1 and 128
                then 'language: 1 to 128 characters'
            when char_length(new.runtime) not between 1 and 128
                then 'runtime: 1 to 128 characters'
            when char_length(new.unit) not between 1 and 128
                then 'unit: 1 to 128 characters'
            when char_length(new.sig_alg) not between 1 and 128
                then 'sig_alg: 1 to 128 characters'
            when char_length(new.description) > 20000
                then 'description: at most 20000 characters'
            when pg_column_size(new.content) > 1048576
                then 'content: at most 1 MiB'
            when pg_column_size(new.output) > 1048576
                then 'output: at most 1 MiB'
            when pg_column_size(new.error) > 262144
                then 'error: at most 256 KiB'
            when new.timeout_ms not between 1 and 86400000
                then 'timeout_ms: 1 to 86400000, a day'
            when new.attempt < 0
                then 'attempt: not negative'
            when new.duration_ms < 0
                then 'duration_ms: not negative'
            when new.tokens_in < 0
                then 'tokens_in: not negative'
            when new.tokens_out < 0
                then 'tokens_out: not negative'
            when new.tool_use_count < 0
                then 'tool_use_count: not negative'
            when abs(new.value) >= 1e38 or scale(new.value) > 38
                then 'value: finite, at most 38 digits on either side of the point'
            when abs(new.cost) >= 1e38 or scale(new.cost) > 38
                then 'cost: finite, at most 38 digits on either side of the point'
            when new.confidence not between 0 and 1 or scale(new.confidence) > 38
                then 'confidence: 0 to 1, at most 38 digits'
            when new.compiled_hash !~ '^[0-9a-f]{64}$'
                then 'compiled_hash: 64 lower-case hex digits'
            when new.prev_hash !~ '^[0-9a-f]{64}$'
                then 'prev_hash: 64 lower-case hex digits'
            when new.curr_hash !~ '^[0-9a-f]{64}$'
                then 'curr_hash: 64 lower-case hex digits'
            when new.public_key !~ '^[0-9a-f]{64}$'
                then 'public_key: 64 lower-case hex digits'
            when new.signature !~ '^[0-9a-f]{128}$'
                then 'signature: 128 lower-case hex digits'
            when new.signature is not null and (new.curr_hash is null or new.public_key is null)
                then 'signature: needs curr_hash and public_key beside it'
        end;
    end if;
    if v_broken is null then
        return new;
    end if;
    raise exception using
        errcode = 'LL017',
        message = 'the span is malformed: column ' || v_broken,
        hint = 'Mend column ' || split_part(v_broken, ':', 1)
            || '; its comment in ledger.universal_registry says what it is for.';
end
$$;

comment on function ledger.check_shape() is
    'Refuses a malformed span and names the column and its limit.';

create or replace trigger universal_registry_before_insert_3_shape
    before insert on ledger.universal_registry
    for each row
    execute function ledger.check_shape();

comment on trigger universal_registry_before_insert_3_shape on ledger.universal_registry is
    'Sizes and formats. Last, after what was absent is filled.';

alter table ledger.universal_registry
    enable always trigger universal_registry_before_insert_3_shape;

-- 40 append-only: no update, no delete, no truncate, by anybody, on any path.
--
-- The statement triggers refuse also what would touch no row, such as an update that the policies
-- have already emptied, or ON CONFLICT DO UPDATE without a conflict: a silent 0 rows teaches nobody.
-- The row triggers are for the paths that fire no statement triggers: the apply worker of a logical
-- replication. An owner or a superuser can still drop all this; that is detected, not prevented.

create or replace function ledger.refuse_change()
returns trigger
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'LL001',
        message = lower(tg_op) || ' of ' || tg_table_schema || '.' || tg_table_name
            || ' is refused: the ledger is append-only',
        hint = 'Append the next version: the same id, seq plus 1; is_deleted = true to remove.';
end
$$;

comment on function ledger.refuse_change() is
    'Refuses every update, delete and truncate.';

create or replace trigger universal_registry_before_change_row
    before update or delete on ledger.universal_registry
    for each row
    execute function ledger.refuse_change();

comment on trigger universal_registry_before_change_row on ledger.universal_registry is
    'Append-only, also for a replication worker.';

create or replace trigger universal_registry_before_change_statement
    before update or delete or truncate on ledger.universal_registry
    for each statement
    execute function ledger.refuse_change();

comment on trigger universal_registry_before_change_statement on ledger.universal_registry is
    'Append-only, also where no row would be touched.';

alter table ledger.universal_registry
    enable always trigger universal_registry_before_change_row,
    enable always trigger universal_registry_before_change_statement;

-- 50 access: who reads and who appends.
--
-- One policy per role and command. Accessors stand in (select …) so that they run once a statement.
-- A comparison with a missing claim is null, so no claim means no rows; anon has SELECT and no policy,
-- so it reads nothing and is told nothing. Own means owner and tenant: user ids may repeat elsewhere.

alter table ledger.universal_registry enable row level security;
alter table ledger.universal_registry force row level security;

drop policy if exists universal_registry_select_authenticated on ledger.universal_registry;
create policy universal_registry_select_authenticated on ledger.universal_registry
    for select
    to authenticated
    using (
        (select ledger.current_user_id()) is not null
        and (
            owner_id = (select ledger.current_user_id())
                and tenant_id = (select ledger.current_tenant_id())
            or visibility = 'tenant' and tenant_id = (select ledger.current_tenant_id())
            or visibility = 'public'
        )
    );

comment on policy universal_registry_select_authenticated on ledger.universal_registry is
    'A client reads its own rows, the tenant rows of its tenant, and public rows.';

drop policy if exists universal_registry_insert_authenticated on ledger.universal_registry;
create policy universal_registry_insert_authenticated on ledger.universal_registry
    for insert
    to authenticated
    with check (
        owner_id = (select ledger.current_user_id())
            and tenant_id = (select ledger.current_tenant_id())
        or owner_id = 'system' and tenant_id = 'system' and (select ledger.is_governor())
    );

comment on policy universal_registry_insert_authenticated on ledger.universal_registry is
    'A client appends as itself in its tenant; a governor also as the system.';

drop policy if exists universal_registry_select_service on ledger.universal_registry;
create policy universal_registry_select_service on ledger.universal_registry
    for select
    to service_role
    using (true);

comment on policy universal_registry_select_service on ledger.universal_registry is
    'A backend reads everything (on Supabase by BYPASSRLS, elsewhere by this).';

drop policy if exists universal_registry_insert_service on ledger.universal_registry;
create policy universal_registry_insert_service on ledger.universal_registry
    for insert
    to service_role
    with check (true);

comment on policy universal_registry_insert_service on ledger.universal_registry is
    'A backend appends for any user it states; what it may append, the triggers say.';

drop policy if exists universal_registry_select_sidecar on ledger.universal_registry;
create policy universal_registry_select_sidecar on ledger.universal_registry
    for select
    to loglineos_sidecar
    using (true);

comment on policy universal_registry_select_sidecar on ledger.universal_registry is
    'The engine reads everything.';

drop policy if exists universal_registry_insert_sidecar on ledger.universal_registry;
create policy universal_registry_insert_sidecar on ledger.universal_registry
    for insert
    to loglineos_sidecar
    with check (true);

comment on policy universal_registry_insert_sidecar on ledger.universal_registry is
    'The engine appends for the owner of the cause; what it may append, the triggers say.';

drop policy if exists universal_registry_select_kernel on ledger.universal_registry;
create policy universal_registry_select_kernel on ledger.universal_registry
    for select
    to loglineos_kernel
    using (
        (select ledger.current_user_id()) is not null
        and (
            owner_id = (select ledger.current_user_id())
                and tenant_id = (select ledger.current_tenant_id())
            or visibility = 'tenant' and tenant_id = (select ledger.current_tenant_id())
            or visibility = 'public'
        )
    );

comment on policy universal_registry_select_kernel on ledger.universal_registry is
    'Ledger code reads what the user reads on whose behalf it runs (app.user_id, app.tenant_id).';

-- Where the owner has neither superuser nor BYPASSRLS, FORCE binds it, and it needs policies to boot
-- the system and to look up the version before. A new owner needs them anew.
drop policy if exists universal_registry_select_owner on ledger.universal_registry;
drop policy if exists universal_registry_insert_owner on ledger.universal_registry;

do $owner$
begin
    execute format(
        'create policy universal_registry_select_owner on ledger.universal_registry'
        ' for select to %I using (true)',
        current_user
    );
    execute format(
        'create policy universal_registry_insert_owner on ledger.universal_registry'
        ' for insert to %I with check (true)',
        current_user
    );
end
$owner$;

comment on policy universal_registry_select_owner on ledger.universal_registry is
    'The definer triggers read the version before.';
comment on policy universal_registry_insert_owner on ledger.universal_registry is
    'The owner boots the system; what it may append, the triggers say.';

-- Never UPDATE, DELETE, TRUNCATE. Grants that default privileges gave away are taken back first.
revoke all on all tables in schema ledger from public, anon, authenticated, service_role;
revoke all on all tables in schema ledger from loglineos_sidecar, loglineos_kernel;
revoke all on all functions in schema ledger from public, anon, authenticated, service_role;

grant usage on schema ledger, ledger_private
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant select on ledger.universal_registry
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant insert on ledger.universal_registry
    to authenticated, service_role, loglineos_sidecar;

grant execute on function ledger.current_user_id(), ledger.current_tenant_id(), ledger.is_governor()
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.uuid7(), ledger.idempotency_id(text, text)
    to authenticated, service_role, loglineos_sidecar;
grant execute on function ledger.may_follow(text, text, text, text, boolean)
    to authenticated, service_role, loglineos_sidecar;

-- The sidecar keeps its own tables here.
grant usage, create on schema engine to loglineos_sidecar;

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

-- 60 timeline: what is now, and what ever was. Both obey the reader's own rights.

-- Definer: the newest version may be hidden from a reader of an older one, and then the older one is
-- no longer what is. The parameters have no names so that PostgREST can not offer it as a call.
create or replace function ledger.has_version(uuid, integer)
returns boolean
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from ledger.universal_registry as r
        where r.id = $1
            and r.seq = $2
    );
end
$$;

comment on function ledger.has_version(uuid, integer) is
    'Whether this version of this span exists, whoever may read it. For visible_timeline.';

create or replace view ledger.visible_timeline
with (security_invoker = true, security_barrier = true)
as
select
    r.at as "when",
    r.*
from ledger.universal_registry as r
where not r.is_deleted
    and not exists (
        select
        from ledger.universal_registry as newer
        where newer.id = r.id
            and newer.seq = r.seq + 1
    )
    -- Who reads a private row reads all its versions: the test above was exact. Others ask.
    and (r.visibility = 'private' or not ledger.has_version(r.id, r.seq + 1));

comment on view ledger.visible_timeline is
    'The newest version of every span that the reader may see and that is not deleted.';

create or replace view ledger.history
with (security_invoker = true, security_barrier = true)
as
select
    r.at as "when",
    r.*
from ledger.universal_registry as r;

comment on view ledger.history is
    'All versions of every span that the reader may see, tombstones included.';

-- The columns say the same as in the table.
do $comments$
declare
    v_column record;
begin
    for v_column in
        select
            c.relname as view_name,
            a.attname as column_name,
            pg_catalog.col_description('ledger.universal_registry'::regclass, t.attnum) as comment
        from pg_catalog.pg_class as c
        join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
        join pg_catalog.pg_attribute as t
            on t.attrelid = 'ledger.universal_registry'::regclass
            and t.attname = case a.attname when 'when' then 'at' else a.attname end
        where c.oid in ('ledger.visible_timeline'::regclass, 'ledger.history'::regclass)
    loop
        execute format(
            'comment on column ledger.%I.%I is %L',
            v_column.view_name, v_column.column_name, v_column.comment
        );
    end loop;
end
$comments$;

revoke all on ledger.visible_timeline, ledger.history
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant select on ledger.visible_timeline, ledger.history
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

revoke all on function ledger.has_version(uuid, integer)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.has_version(uuid, integer)
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- 70 indexes: few, for each insert pays for each one. GIN indexes are the user's own choice.

create index if not exists universal_registry_tenant_type_at_idx
    on ledger.universal_registry (tenant_id, entity_type, at desc);

comment on index ledger.universal_registry_tenant_type_at_idx is
    'The timeline of a tenant, by type, newest first.';

create index if not exists universal_registry_parent_idx
    on ledger.universal_registry (parent_id)
    where parent_id is not null;

comment on index ledger.universal_registry_parent_idx is
    'Requests and executions of a function.';

create index if not exists universal_registry_trace_idx
    on ledger.universal_registry (trace_id)
    where trace_id is not null;

comment on index ledger.universal_registry_trace_idx is
    'All spans of one flow.';

create index if not exists universal_registry_xact_idx
    on ledger.universal_registry (xact);

comment on index ledger.universal_registry_xact_idx is
    'Catch-up: what a snapshot had not seen.';

-- Every version that was ever open is in here: the scan leaves out those that have a version after
-- them, an anti-join with the primary key on (id, seq + 1) in the same order. Ids begin with a time,
-- so a scan may also begin at one.
create index if not exists universal_registry_open_request_idx
    on ledger.universal_registry (id, seq)
    where entity_type = 'request'
        and status in ('scheduled', 'running', 'retry', 'blocked', 'cancel_requested');

comment on index ledger.universal_registry_open_request_idx is
    'Open work at start-up, and after an overflow.';

-- 80 import: the one door for rows that come with their own times: after a restore, from another ledger.
--
--     select ledger.import_begin();   nobody but the owner appends; rows keep accepted_at and xact
--     copy, insert, pg_restore --data-only: in any order
--     select ledger.import_end();     proves the chains, writes an epoch, closes the door
--
-- The door is one trigger, which is there while it is open, so that ordinary inserts pay nothing for it.
-- A failed import_end names the faults and leaves the door open. To undo an import, do all three steps
-- in one transaction; once committed, rows stay: then start again with a fresh database.
-- Nothing that was in the ledger when the door closed is ever routed by the sidecar.

create or replace function ledger_private.refuse_while_importing()
returns trigger
language plpgsql
volatile
security invoker
set search_path = ''
as $$
begin
    if exists (
        select
        from pg_catalog.pg_class as c
        where c.oid = tg_relid
            and pg_catalog.pg_has_role(current_user, c.relowner, 'usage')
    ) then
        return new;
    end if;
    raise exception using
        errcode = 'LL018',
        message = 'the ledger is being restored and takes no spans',
        hint = 'Try again later. Its owner ends it with: select ledger.import_end()';
end
$$;

comment on function ledger_private.refuse_while_importing() is
    'Refuses everybody but the owner while the import door is open.';

create or replace function ledger_private.is_importing()
returns boolean
language sql
stable
security invoker
set search_path = ''
as $$
    select exists (
        select
        from pg_catalog.pg_trigger
        where tgrelid = 'ledger.universal_registry'::regclass
            and tgname = 'universal_registry_before_insert_0_import'
    )
$$;

comment on function ledger_private.is_importing() is
    'Whether the import door is open.';

-- A sidecar would run what comes in. Its slot counts while it is held: an idle one brings the rows later,
-- when the epoch is there.
create or replace function ledger_private.refuse_sidecar()
returns void
language plpgsql
stable
security invoker
set search_path = ''
as $$
declare
    v_who text := (
        select string_agg(attached.what, ', ' order by attached.what)
        from (
            select 'replication slot ' || slot_name || ' (pid ' || active_pid || ')' as what
            from pg_catalog.pg_replication_slots
            where active
                and database = current_database()
                and slot_name like 'loglineos%'
            union
            select coalesce(nullif(application_name, ''), usename) || ' (pid ' || pid || ')'
            from pg_catalog.pg_stat_activity
            where datname = current_database()
                and pid <> pg_backend_pid()
                and (usename = 'loglineos_sidecar' or application_name like 'loglineos%')
        ) as attached
    );
begin
    if v_who is not null then
        raise exception using
            errcode = 'LL018',
            message = 'a sidecar is attached: ' || v_who,
            hint = 'Stop it first; start it again when ledger.import_end() has answered.';
    end if;
end
$$;

comment on function ledger_private.refuse_sidecar() is
    'Refuses an import while a sidecar is attached to this database.';

create or replace function ledger.import_begin()
returns void
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
    v_trigger name;
begin
    lock table ledger.universal_registry in share row exclusive mode;
    if ledger_private.is_importing() then
        raise exception using
            errcode = 'LL018',
            message = 'the import door is open already: ' || (
                select pg_catalog.obj_description(oid, 'pg_trigger')
                from pg_catalog.pg_trigger
                where tgname = 'universal_registry_before_insert_0_import'
            ),
            hint = 'Load the rows that are missing, then: select ledger.import_end()';
    end if;
    perform ledger_private.refuse_sidecar();

    create trigger universal_registry_before_insert_0_import
        before insert on ledger.universal_registry
        for each row
        execute function ledger_private.refuse_while_importing();
    alter table ledger.universal_registry
        enable always trigger universal_registry_before_insert_0_import;
    execute format(
        'comment on trigger universal_registry_before_insert_0_import on ledger.universal_registry is %L',
        'Import door, open since ' || to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    );
    -- What stamps, fills and looks at the version before. Changes stay refused.
    for v_trigger in
        select tgname
        from pg_catalog.pg_trigger
        where tgrelid = 'ledger.universal_registry'::regclass
            and tgname in (
                'universal_registry_before_insert_1_admit', 'universal_registry_before_insert_2_follow'
            )
    loop
        execute format('alter table ledger.universal_registry disable trigger %I', v_trigger);
    end loop;
    -- COPY into a table whose policies bind is refused, even to an owner whom they let through.
    if pg_catalog.row_security_active('ledger.universal_registry') then
        alter table ledger.universal_registry no force row level security;
    end if;
end
$$;

comment on function ledger.import_begin() is
    'Opens the import door: until ledger.import_end() nobody but the owner appends, and rows keep '
    'accepted_at and xact as given. For the owner, with no sidecar attached.';

create or replace function ledger_private.chain_faults()
returns setof text
language sql
stable
security invoker
set search_path = ''
as $$
    with chain as (
        select
            r.id, r.seq, r.owner_id, r.tenant_id, r.entity_type, r.parent_id, r.prev_hash, r.accepted_at,
            lag(r.seq) over versions as before_seq,
            lag(r.owner_id) over versions as before_owner_id,
            lag(r.tenant_id) over versions as before_tenant_id,
            lag(r.entity_type) over versions as before_entity_type,
            lag(r.parent_id) over versions as before_parent_id,
            lag(r.curr_hash) over versions as before_curr_hash
        from ledger.universal_registry as r
        window versions as (partition by r.id order by r.seq)
    ), judged as (
        select
            c.id,
            c.seq,
            case
                when c.before_seq is null and c.seq <> 0
                    then 'has no version 0 before it'
                when c.seq <> c.before_seq + 1
                    then 'follows version ' || c.before_seq
                when c.owner_id <> c.before_owner_id
                    or c.tenant_id <> c.before_tenant_id
                    or c.entity_type <> c.before_entity_type
                    then 'changes tenant_id, owner_id or entity_type'
                when c.entity_type = 'request' and c.parent_id <> c.before_parent_id
                    then 'changes parent_id of a request'
                when c.prev_hash is distinct from c.before_curr_hash
                    then 'prev_hash is not the curr_hash of the version before'
                when c.accepted_at > clock_timestamp()
                    then 'accepted_at ' || c.accepted_at || ' is still to come'
            end as fault
        from chain as c
    )
    select 'span ' || j.id || ', version ' || j.seq || ': ' || j.fault
    from judged as j
    where j.fault is not null
$$;

comment on function ledger_private.chain_faults() is
    'What is wrong with the chains of versions, one line a fault; nothing in a sound ledger. Reads it all.';

create or replace function ledger.import_end()
returns jsonb
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
    v_opened text;
    v_faults text[];
    v_trigger name;
    v_epoch jsonb;
begin
    lock table ledger.universal_registry in share row exclusive mode;
    if not ledger_private.is_importing() then
        raise exception using
            errcode = 'LL018',
            message = 'the import door is not open',
            hint = 'Open it first: select ledger.import_begin()';
    end if;
    perform ledger_private.refuse_sidecar();

    v_faults := array(select f from ledger_private.chain_faults() as f limit 20);
    if cardinality(v_faults) > 0 then
        raise exception using
            errcode = 'LL018',
            message = 'the rows are no sound ledger: ' || v_faults[1],
            detail = array_to_string(v_faults, e'\n'),
            hint = 'The door stays open. Load what is missing and call it again, or start with a fresh '
                'database: rows that are in can not be removed.';
    end if;

    v_epoch := (
        select jsonb_build_object(
            'rows', count(*),
            'ids', count(*) filter (where r.seq = 0),
            'max_xact', max(r.xact::text::numeric),
            'accepted_until', to_jsonb(max(r.accepted_at)),
            'opened', (
                select pg_catalog.obj_description(t.oid, 'pg_trigger')
                from pg_catalog.pg_trigger as t
                where t.tgrelid = 'ledger.universal_registry'::regclass
                    and t.tgname = 'universal_registry_before_insert_0_import'
            )
        )
        from ledger.universal_registry as r
    );
    if has_function_privilege('pg_catalog.pg_control_system()', 'execute') then
        v_epoch := v_epoch || jsonb_build_object(
            'system_identifier', (select system_identifier::text from pg_catalog.pg_control_system())
        );
    end if;
    insert into ledger.universal_registry (
        id, seq, entity_type, who, did, this, at, accepted_at, xact,
        owner_id, tenant_id, visibility, is_deleted, metadata
    )
    values (
        ledger.uuid7(), 0, 'epoch', 'system:import', 'imported', 'ledger', now(), statement_timestamp(),
        pg_catalog.pg_current_xact_id(), 'system', 'system', 'private', false, v_epoch
    );

    drop trigger universal_registry_before_insert_0_import on ledger.universal_registry;
    -- All of them: pg_restore --disable-triggers leaves them enabled, but no longer always.
    for v_trigger in
        select t.tgname
        from pg_catalog.pg_trigger as t
        join pg_catalog.pg_proc as p on p.oid = t.tgfoid
        where t.tgrelid = 'ledger.universal_registry'::regclass
            and p.pronamespace in ('ledger'::regnamespace, 'ledger_private'::regnamespace)
    loop
        execute format('alter table ledger.universal_registry enable always trigger %I', v_trigger);
    end loop;
    if not (
        select relforcerowsecurity
        from pg_catalog.pg_class
        where oid = 'ledger.universal_registry'::regclass
    ) then
        alter table ledger.universal_registry force row level security;
    end if;
    perform ledger_private.mend_publication();
    perform ledger_private.lock_extension();
    return v_epoch;
end
$$;

comment on function ledger.import_end() is
    'Closes the import door: proves the chains of all versions, writes an epoch span and returns its '
    'metadata. Refuses with the first faults, and the door stays open. For the owner.';

-- DROP EXTENSION drops what belongs to the extension, past every guard and without a word. This function
-- belongs to nobody and returns rows of the ledger: so Postgres refuses, and with CASCADE it names it.
create or replace function ledger_private.lock_extension()
returns void
language plpgsql
volatile
security invoker
set search_path = ''
as $$
begin
    if to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()') is not null
        or not exists (
            select
            from pg_catalog.pg_depend as d
            join pg_catalog.pg_extension as e on e.oid = d.refobjid
            where d.classid = 'pg_catalog.pg_class'::regclass
                and d.objid = 'ledger.universal_registry'::regclass
                and d.deptype = 'e'
                and e.extname = 'loglineos'
        )
    then
        return;
    end if;
    create function ledger_private.drop_extension_destroys_the_ledger()
    returns setof ledger.universal_registry
    language sql
    stable
    security invoker
    set search_path = ''
    return null::ledger.universal_registry;
    comment on function ledger_private.drop_extension_destroys_the_ledger() is
        'Stands between DROP EXTENSION and the ledger. To destroy the ledger, drop this function first.';
    revoke all on function ledger_private.drop_extension_destroys_the_ledger() from public;
    if exists (
        select
        from pg_catalog.pg_depend
        where classid = 'pg_catalog.pg_proc'::regclass
            and objid = 'ledger_private.drop_extension_destroys_the_ledger()'::regprocedure
            and deptype = 'e'
    ) then
        alter extension loglineos drop function ledger_private.drop_extension_destroys_the_ledger();
    end if;
end
$$;

comment on function ledger_private.lock_extension() is
    'In the extension form: makes what DROP EXTENSION stumbles over, where it is missing.';

-- For the owner alone; of the rest, what the sidecar asks before it starts.
revoke all on function ledger.import_begin(), ledger.import_end()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
revoke all on function
    ledger_private.refuse_while_importing(), ledger_private.is_importing(),
    ledger_private.refuse_sidecar(), ledger_private.chain_faults(), ledger_private.lock_extension()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.is_importing() to loglineos_sidecar;

-- 90 publication: the doorbell. Inserts only; the columns that routing needs and no bodies.
--
-- A publication is never a member of an extension: it survives `drop extension`, without the table.
-- So it is made or mended, whichever is needed.

create or replace function ledger_private.mend_publication()
returns void
language plpgsql
volatile
security invoker
set search_path = ''
as $$
declare
    v_columns constant text :=
        'id, seq, entity_type, status, owner_id, tenant_id, visibility, is_deleted, parent_id, at,'
        ' accepted_at, scheduled_at, trace_id, xact, curr_hash, prev_hash';
begin
    if not exists (select from pg_catalog.pg_publication where pubname = 'loglineos') then
        execute format(
            'create publication loglineos for table ledger.universal_registry (%s)'
            ' with (publish = ''insert'')',
            v_columns
        );
    elsif not exists (
        select
        from pg_catalog.pg_publication_tables
        where pubname = 'loglineos'
            and schemaname = 'ledger'
            and tablename = 'universal_registry'
    ) then
        execute format(
            'alter publication loglineos add table ledger.universal_registry (%s)',
            v_columns
        );
    end if;
    comment on publication loglineos is
        'Insert-only stream of new spans for the sidecar: a doorbell, not the queue.';
end
$$;

comment on function ledger_private.mend_publication() is
    'Makes the publication loglineos, or publishes the ledger in it, whichever is needed. For the owner.';

revoke all on function ledger_private.mend_publication()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- A dump that is being restored brings the publication itself, without the table where that is an
-- extension's; ledger.import_end() mends it.
do $publication$
begin
    if current_setting('loglineos.restoring', true) is distinct from 'on' then
        perform ledger_private.mend_publication();
    end if;
end
$publication$;

-- 95 version: which LogLineOS this ledger is of. Last: whoever reads it knows that all the rest is there.

create or replace function ledger_private.version()
returns text
language sql
immutable
parallel safe
security invoker
set search_path = ''
return '0.2.0';

comment on function ledger_private.version() is
    'The version of this schema. A sidecar that needs a later one refuses to start.';

revoke all on function ledger_private.version()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.version() to loglineos_sidecar;

select ledger_private.lock_extension();
