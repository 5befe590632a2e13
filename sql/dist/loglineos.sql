-- LogLineOS 0.2.0: paste this whole file into a SQL editor and run it. It installs the ledger in an
-- empty database, brings one of 0.1.0 to 0.2.0, and puts up again what has fallen on one of 0.2.0.
-- With psql: psql -q -v ON_ERROR_STOP=1 -f loglineos.sql
-- Generated from sql/src by scripts/sqlbuild. Do not edit.

begin;
set local client_min_messages = warning;

do $guard$
declare
    v_version text;
begin
    if exists (select from pg_catalog.pg_extension where extname = 'loglineos') then
        raise exception using
            message = 'the ledger of this database is an extension',
            hint = 'Run instead: alter extension loglineos update';
    end if;
    -- Read, not called: it is not known yet whose it is.
    v_version := (
        select substring(pg_catalog.pg_get_function_sqlbody(oid) from '[0-9]+[.][0-9]+[.][0-9]+')
        from pg_catalog.pg_proc
        where oid = to_regprocedure('ledger_private.version()')
    );
    if v_version is not null then
        if string_to_array(v_version, '.')::integer[] > string_to_array('0.2.0', '.')::integer[] then
            raise exception using
                message = 'this database has a ledger of version ' || v_version || ', this file brings 0.2.0',
                hint = 'Nothing to do, or take the file of that version.';
        end if;
    end if;
end
$guard$;

-- 0.1.0 to 0.2.0: what the body does not replace by itself. Breaks nothing. Locks the ledger.

-- ledger.has_version goes (60_timeline): it told anybody about anything. What a user has built on it would
-- stop that at the very end, in words that advise to drop his things.
do $dependents$
declare
    v_dependents text := (
        select string_agg(distinct case
            when d.classid = 'pg_catalog.pg_rewrite'::regclass then (
                select 'view ' || r.ev_class::regclass
                from pg_catalog.pg_rewrite as r
                where r.oid = d.objid
            )
            else pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid)
        end, ', ')
        from pg_catalog.pg_depend as d
        where d.refclassid = 'pg_catalog.pg_proc'::regclass
            and d.refobjid = to_regprocedure('ledger.has_version(uuid,integer)')
            and d.deptype = 'n'
            and not exists (
                select
                from pg_catalog.pg_rewrite as r
                where d.classid = 'pg_catalog.pg_rewrite'::regclass
                    and r.oid = d.objid
                    and r.ev_class = to_regclass('ledger.visible_timeline')
            )
    );
begin
    if v_dependents is not null then
        raise exception using
            errcode = 'dependent_objects_still_exist',
            message = 'ledger.has_version goes with this version, and is used by: ' || v_dependents,
            hint = 'Build that on ledger.visible_timeline (the newest versions) or ledger.history instead, then '
                'run this again.';
    end if;
end
$dependents$;

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
    -- Run again, it would stamp the rows that are on their way through the import door.
    if exists (
        select
        from pg_catalog.pg_trigger
        where tgrelid = to_regclass('ledger.universal_registry')
            and tgname = 'universal_registry_before_insert_0_import'
    ) then
        raise exception using
            message = 'the ledger is being restored: its import door is open',
            hint = 'End that first: select ledger.import_end()';
    end if;
    for v_attempt in 1..100 loop
        begin
            set local lock_timeout = '300ms';
            execute 'lock table ' || (
                -- A view may be gone (guard_check says so, and to run this again).
                select string_agg(c.oid::regclass::text, ', ' order by c.relkind, c.oid)
                from pg_catalog.pg_class as c
                where c.relnamespace = 'ledger'::regnamespace
                    and c.relname in ('universal_registry', 'visible_timeline', 'history')
            ) || ' in access exclusive mode';
            perform set_config('lock_timeout', v_lock_timeout, true);
            return;
        exception
            when lock_not_available or deadlock_detected then
                perform pg_sleep(random() * 0.2);
        end;
    end loop;
    raise exception using
        message = 'the ledger is in use: no moment to change it was found in 40 seconds',
        detail = 'It is held by process ' || coalesce((
            select string_agg(distinct l.pid::text, ', ')
            from pg_catalog.pg_locks as l
            join pg_catalog.pg_class as c on c.oid = l.relation
            where c.relnamespace = 'ledger'::regnamespace
                and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
                and l.granted
                and l.pid <> pg_backend_pid()
        ), 'none by now') || '.',
        hint = 'End long transactions (select pid, xact_start, query from pg_stat_activity order by '
            'xact_start) and run it again.';
end
$lock$;

-- In the place of universal_registry_parent_owner_idx.
drop index if exists ledger.universal_registry_parent_idx;

-- In the place of universal_registry_open_idx and universal_registry_due_idx.
drop index if exists ledger.universal_registry_open_request_idx;

-- 1_admit does what 3_shape did.
drop trigger if exists universal_registry_before_insert_3_shape on ledger.universal_registry;
drop function if exists ledger.check_shape();

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

-- Who may create a schema in this database can have been here first. A schema's owner replaces what is in
-- it, and a function of his that is called here has the rights of whoever runs this: so nothing is called
-- before this. What the sidecar keeps in engine is its own.
do $strangers$
declare
    v_thing record;
begin
    select found.what, o.rolname
    into v_thing
    from (
        select 'schema ' || n.nspname as what, n.nspowner as owner
        from pg_catalog.pg_namespace as n
        where n.nspname in ('ledger', 'ledger_private', 'engine')
        union all
        select 'relation ' || c.oid::regclass, c.relowner
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname in ('ledger', 'ledger_private')
        union all
        select 'function ' || p.oid::regprocedure, p.proowner
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname in ('ledger', 'ledger_private')
        union all
        select 'type ' || t.oid::regtype, t.typowner
        from pg_catalog.pg_type as t
        join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
        where n.nspname in ('ledger', 'ledger_private')
    ) as found
    join pg_catalog.pg_roles as o on o.oid = found.owner
    join pg_catalog.pg_roles as me on me.rolname = current_user
    where not o.rolsuper
        and o.oid <> me.oid
        and (me.rolsuper or not pg_catalog.pg_has_role(o.oid, 'usage'))
    limit 1;
    if found then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = v_thing.what || ' is there already and belongs to ' || v_thing.rolname,
            hint = format('If %I is the owner of this ledger, run it as %I (set role). If not, nothing of '
                'that role''s may be in the schemas ledger, ledger_private and engine: look what it is, '
                'and drop it.', v_thing.rolname, v_thing.rolname);
    end if;
end
$strangers$;

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
--
-- Claims that are no JSON object, and a sub or tenant_id that is no string or an empty one, are no
-- identity; nothing else is taken in its place. 30_guards and 50_access read the claims themselves,
-- in the same way, because a call costs more than what it does; a test holds them together.

create or replace function ledger_private.claims()
returns jsonb
language plpgsql
stable
-- A block with an exception needs a subtransaction, which Postgres 15 and 16 refuse in a parallel plan.
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
exception
    when data_exception or program_limit_exceeded then
        return null;
end
$$;

comment on function ledger_private.claims() is
    'The claims of the verified token; null without, and where they are not JSON.';

create or replace function ledger.current_user_id()
returns text
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return nullif(current_setting('app.user_id', true), '');
    end if;
    return jsonb_path_query_first(
        ledger_private.claims() -> 'sub', 'strict $ ? (@.type() == "string" && @ != "")'
    ) #>> '{}';
end
$$;

comment on function ledger.current_user_id() is
    'The caller''s user: the claim sub of the verified token; for the sidecar''s roles app.user_id. '
    'Null without.';

create or replace function ledger.current_tenant_id()
returns text
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_claims jsonb;
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return nullif(current_setting('app.tenant_id', true), '');
    end if;
    -- Never user_metadata: users write that themselves. Where app_metadata has a tenant_id, it decides,
    -- also when it is empty: who was taken out of a tenant does not fall into another one.
    v_claims := ledger_private.claims();
    return jsonb_path_query_first(
        coalesce(v_claims #> '{app_metadata,tenant_id}', v_claims -> 'tenant_id'),
        'strict $ ? (@.type() == "string" && @ != "")'
    ) #>> '{}';
end
$$;

comment on function ledger.current_tenant_id() is
    'The caller''s tenant: the claim app_metadata.tenant_id; where app_metadata has none, the claim '
    'tenant_id; for the sidecar''s roles app.tenant_id. Null without.';

create or replace function ledger.is_governor()
returns boolean
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return false;
    end if;
    if ledger_private.claims() #> '{app_metadata,logline_role}' = '"governor"' then
        return true;
    end if;
    -- Not who came here through a definer function of the owner's: the role that was set is still in sight.
    return exists (
        select
        from pg_catalog.pg_class
        where oid = 'ledger.universal_registry'::regclass
            and pg_catalog.pg_get_userbyid(relowner) = current_user
            and pg_catalog.pg_has_role(
                coalesce(nullif(current_setting('role', true), 'none'), session_user), relowner, 'usage'
            )
    );
end
$$;

comment on function ledger.is_governor() is
    'Whether the caller has the governing right: the claim app_metadata.logline_role = governor, or '
    'the login that owns the ledger. service_role alone has not.';

revoke all on function ledger_private.claims()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.claims()
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

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
    -- 48 bits of Unix milliseconds take the place of the first 48 bits of a version 4 UUID, and a 7 that of
    -- its 4. admit_span (30_guards) has the same expression: a call costs more than it does.
    return concat(
        '0', to_hex((date_part('epoch', clock_timestamp()) * 1000)::bigint),
        '7', right(gen_random_uuid()::text, 21)
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
    v_padded bytea := p_message || decode('80', 'hex')
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
    'system ids are not for clients. Usual writer: client or engine.';
comment on column ledger.universal_registry.seq is
    'Version of the thing, from 0, without gaps. Absent: 0. Usual writer: client or engine.';
comment on column ledger.universal_registry.entity_type is
    'Kind of span, for example function, request, execution, policy. Decides who may write it. Never '
    'changes between versions. Usual writer: client or engine.';
comment on column ledger.universal_registry.who is
    'Actor, as role:name: user:<id>, client:<name>; kernel:, policy:, sidecar: for the engine, '
    'system: for governors. Absent: user:<sub>. Usual writer: client or engine.';
comment on column ledger.universal_registry.did is
    'Verb: what the actor did, for example defined, scheduled, executed. Usual writer: client or '
    'engine.';
comment on column ledger.universal_registry.this is
    'Object or topic of the act, for example run_code or memory.note. Usual writer: client or engine.';
comment on column ledger.universal_registry.at is
    'Event time as the writer claims it; for clients -30 days to +5 minutes of now. Never used for '
    'order. Absent: now. Shown as "when" in the views. Usual writer: client or engine.';
comment on column ledger.universal_registry.confirmed_by is
    'Who confirmed the act. Usual writer: client or engine.';
comment on column ledger.universal_registry.if_ok is
    'What follows when the act is confirmed. Usual writer: client or engine.';
comment on column ledger.universal_registry.if_doubt is
    'What follows in doubt. Usual writer: client or engine.';
comment on column ledger.universal_registry.if_not is
    'What follows when the act is refused or rolled back. Usual writer: client or engine.';
comment on column ledger.universal_registry.xact is
    'Inserting transaction: makes catch-up free of gaps. Not part of the hash. Only writer: the '
    'database.';
comment on column ledger.universal_registry.accepted_at is
    'When the database received the span (its own clock). Not part of the hash. Only writer: the '
    'database.';
comment on column ledger.universal_registry.scheduled_at is
    'Earliest time to run. Usual writer: client or engine.';
comment on column ledger.universal_registry.effective_at is
    'When a manifest or kernel version takes force. Usual writer: governor.';
comment on column ledger.universal_registry.expires_at is
    'When the span stops being valid, for tokens and grants. Usual writer: client or engine.';
comment on column ledger.universal_registry.ttl_at is
    'When the span may be archived. Usual writer: client or engine.';
comment on column ledger.universal_registry.parent_id is
    'Direct cause or container; of a request and an execution: the function. Usual writer: client or '
    'engine.';
comment on column ledger.universal_registry.related_to is
    'Other spans that this one is about, at most 1000. Usual writer: client or engine.';
comment on column ledger.universal_registry.links is
    'Typed relations, an object, for example {"caused_by": …}. Usual writer: client or engine.';
comment on column ledger.universal_registry.trace_id is
    'Correlation of all spans of one flow. Usual writer: client or engine.';
comment on column ledger.universal_registry.session_id is
    'Conversation or session. Usual writer: client or engine.';
comment on column ledger.universal_registry.idempotency_key is
    'The caller''s own name for the act, so that a retry is the same act. Usual writer: client.';
comment on column ledger.universal_registry.policy_id is
    'Policy that emitted the span. Only writer: the engine.';
comment on column ledger.universal_registry.owner_id is
    'User that owns the span: the wall of private rows. Absent: the claim sub. Never changes between '
    'versions. Writer: client (only its own), backend or engine.';
comment on column ledger.universal_registry.tenant_id is
    'Tenant of the span: the wall of everything; system is the system''s. Absent: the claim. Never '
    'changes between versions. Writer: client (only its own), backend or engine.';
comment on column ledger.universal_registry.visibility is
    'Who may read it: private (the owner), tenant, public (everybody signed in; needs the governing '
    'right or a grant of the manifest). Absent: private. Usual writer: client or engine.';
comment on column ledger.universal_registry.sensitivity is
    'How sensitive: public, internal, secret or pii. Usual writer: client or engine.';
comment on column ledger.universal_registry.scopes is
    'Rights that the span names, at most 1000. Usual writer: client or engine.';
comment on column ledger.universal_registry.app_id is
    'Application that the span belongs to. Usual writer: client.';
comment on column ledger.universal_registry.device_id is
    'Device that the span comes from. Usual writer: client.';
comment on column ledger.universal_registry.status is
    'State of life; which may follow which depends on entity_type (ledger.may_follow). Usual writer: '
    'client or engine.';
comment on column ledger.universal_registry.is_deleted is
    'Tombstone: this version ends the thing; visible_timeline hides it. Absent: false. Usual writer: '
    'client or engine.';
comment on column ledger.universal_registry.reason is
    'Why, in words or as a short code. Usual writer: client or engine.';
comment on column ledger.universal_registry.priority is
    'Order of importance, higher first. Usual writer: client or engine.';
comment on column ledger.universal_registry.severity is
    'How bad, for alerts and incidents. Usual writer: client or engine.';
comment on column ledger.universal_registry.attempt is
    'Number of the try, from 1. Only writer: the engine.';
comment on column ledger.universal_registry.name is
    'Name of the thing. Usual writer: client or engine.';
comment on column ledger.universal_registry.description is
    'What the thing is for. Usual writer: client or engine.';
comment on column ledger.universal_registry.kind is
    'Sub-type in its entity_type. Usual writer: client or engine.';
comment on column ledger.universal_registry.version is
    'Version label of the content, as people write it; the ledger''s own is seq. Usual writer: '
    'client.';
comment on column ledger.universal_registry.tags is
    'Free labels, at most 1000. Usual writer: client or engine.';
comment on column ledger.universal_registry.layer is
    'Layer of a memory: session, temporary, permanent, shared or local. Usual writer: client or '
    'engine.';
comment on column ledger.universal_registry.schema_id is
    'Contract that content follows. Usual writer: client or engine.';
comment on column ledger.universal_registry.content is
    'Body: prompt text, memory, document; at most 1 MiB. Usual writer: client or engine.';
comment on column ledger.universal_registry.code is
    'Source of a function, policy or kernel; at most 256 KiB. Usual writer: client; of kernels: '
    'governor.';
comment on column ledger.universal_registry.language is
    'Language of code: javascript or typescript. Usual writer: client.';
comment on column ledger.universal_registry.runtime is
    'Runtime that the author had in mind. Usual writer: client.';
comment on column ledger.universal_registry.timeout_ms is
    'Limit of a run''s JavaScript time, milliseconds. Usual writer: client.';
comment on column ledger.universal_registry.input is
    'Input of a request or run; at most 1 MiB. Usual writer: client or engine.';
comment on column ledger.universal_registry.output is
    'Result of a run; at most 1 MiB. Usual writer: the engine.';
comment on column ledger.universal_registry.error is
    'Error of a run: {code, message, line?, column?, stack?}. Usual writer: the engine.';
comment on column ledger.universal_registry.duration_ms is
    'How long it took, milliseconds. Usual writer: the engine.';
comment on column ledger.universal_registry.value is
    'Measured value of a metric, in unit. Usual writer: the engine.';
comment on column ledger.universal_registry.unit is
    'Unit of value, for example ms or count. Usual writer: the engine.';
comment on column ledger.universal_registry.confidence is
    'How sure a model was, 0 to 1. Usual writer: the engine.';
comment on column ledger.universal_registry.provider_id is
    'Provider that was called. Usual writer: client or engine.';
comment on column ledger.universal_registry.model is
    'Model that was called. Usual writer: client or engine.';
comment on column ledger.universal_registry.tokens_in is
    'Tokens sent to a model, count. Usual writer: the engine.';
comment on column ledger.universal_registry.tokens_out is
    'Tokens received from a model, count. Usual writer: the engine.';
comment on column ledger.universal_registry.cost is
    'Cost of the call; currency in metadata, US dollars without. Usual writer: the engine.';
comment on column ledger.universal_registry.tool_use_count is
    'Tool calls in one turn, count. Usual writer: the engine.';
comment on column ledger.universal_registry.compiled_hash is
    'BLAKE3-256 of a compiled prompt, 64 lower-case hex digits. Usual writer: the engine.';
comment on column ledger.universal_registry.prev_hash is
    'curr_hash of the version before; null when that has none. Filled when absent and curr_hash is '
    'not stated. Usual writer: client, engine or the database.';
comment on column ledger.universal_registry.curr_hash is
    'BLAKE3-256 of the canonical span, 64 lower-case hex digits. Who states it states every hashed '
    'column. Usual writer: client or engine.';
comment on column ledger.universal_registry.signature is
    'Ed25519 over the 32 bytes of curr_hash, 128 lower-case hex digits. Not part of the hash. Usual '
    'writer: client or engine.';
comment on column ledger.universal_registry.public_key is
    'Ed25519 public key of the signer, 64 lower-case hex digits. Usual writer: client or engine.';
comment on column ledger.universal_registry.sig_alg is
    'Form of the signature: ed25519-blake3-v1. Usual writer: client or engine.';
comment on column ledger.universal_registry.sig_key_id is
    'Name of the key: did:logline:<hash of the public key>. Usual writer: client or engine.';
comment on column ledger.universal_registry.metadata is
    'Everything else, an object, at most 256 KiB. The key engine {cause, root, depth, kind} is '
    'written by the engine only. Usual writer: client or engine.';

comment on constraint universal_registry_pkey on ledger.universal_registry is
    'The fence: of two writers of one version, one wins.';
comment on constraint universal_registry_seq_check on ledger.universal_registry is
    'Versions count from 0.';

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

-- 32 refusals: what the insert guard (30_guards) says when it refuses.

create or replace function ledger_private.refuse_span(p_code text, p_span ledger.universal_registry)
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = p_code,
        message = case p_code
            when 'LL003' then p_span.entity_type || ' may not get status '
                || coalesce(p_span.status, 'null')
                || case p_span.seq when 0 then ' in version 0' else ' from anyone but the engine' end
            when 'LL004' then p_span.entity_type || ' of tenant ' || p_span.tenant_id
                || ' is not written by this role'
            when 'LL005' then 'the verified token names no user or no tenant, or the span states none'
            when 'LL006' then 'owner_id or tenant_id is not that of the verified token'
            when 'LL007' then 'id ' || p_span.id
                || ' is a system id, a derived (version 8), the nil or the max id, or one (version 5) of '
                'another idempotency_key'
            when 'LL008' then 'who "' || left(p_span.who, 60) || '" is reserved'
            when 'LL009' then 'metadata.engine, policy_id and attempt are written by the engine only'
            when 'LL010' then 'visibility public needs the governing right or a grant of the manifest'
            when 'LL011' then 'at ' || p_span.at || ' is outside -30 days to +5 minutes of now'
            when 'LL014' then 'version 0 states a prev_hash, but nothing is before it'
            when 'LL015' then 'parent_id ' || coalesce(p_span.parent_id::text, 'null')
                || ' is no function that you may call'
            when 'LL016' then 'a span with curr_hash leaves a hashed column to be filled in'
        end,
        hint = case p_code
            when 'LL003' then case
                when p_span.entity_type <> 'request' then
                    'State status draft or active; a function of a tenant may be scheduled, too.'
                when p_span.seq = 0 then 'State status scheduled.'
                else 'Its owner may append cancel_requested, or scheduled after dead.'
            end
            when 'LL004' then 'Manifest, key and the functions, policies and providers of tenant system need '
                'the claim app_metadata.logline_role = governor; what a run leaves behind is written '
                'by the engine: append a request and let it run.'
            when 'LL005' then 'Sign in with a token that carries sub and app_metadata.tenant_id; '
                'service_role, the owner and the engine state owner_id and tenant_id.'
            when 'LL006' then 'Leave owner_id and tenant_id out: they are filled from the token.'
            when 'LL007' then 'Leave id out, or state a version 7 or version 4 UUID, or '
                'ledger.idempotency_id(tenant_id, idempotency_key).'
            when 'LL008' then 'Leave who out, or state user:<your own id> or client:<name>: plain ASCII up to '
                'the colon; system: is for governors.'
            when 'LL009' then 'Leave the key engine out of metadata, and policy_id and attempt out.'
            when 'LL010' then 'State visibility tenant or private.'
            when 'LL011' then 'Leave at out, mend the clock, or keep the old time in metadata.'
            when 'LL014' then 'Leave prev_hash out.'
            when 'LL015' then 'State as parent_id the id of a function that you can read and that is '
                'not archived.'
            when 'LL016' then 'State id, seq, who, at, owner_id, tenant_id, visibility and '
                'is_deleted, or leave curr_hash out.'
        end;
end
$$;

comment on function ledger_private.refuse_span(text, ledger.universal_registry) is
    'Refuses a span by this code, and says why and what to do. For the insert guard.';

revoke all on function ledger_private.refuse_span(text, ledger.universal_registry)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.refuse_span(text, ledger.universal_registry)
    to authenticated, service_role, loglineos_sidecar;

-- 35 shape: sizes, formats, finite times: whatever keeps a span readable for everybody, for ever.
--
-- Sizes are those of the text form, which is what every reader gets; as stored, a value may be compressed,
-- and ten bytes of jsonb may be a number of 131072 digits. Null passes a rule. Why this is not sixty
-- checks: 20_registry. Why an ordinary span never comes here: 30_guards.

-- Numbers first, and by jsonpath, which does not write them out: what is too long as text never becomes
-- text here. 0e-9999 is 0 with 9999 decimals.
create or replace function ledger_private.is_odd_json(p_json jsonb)
returns boolean
language plpgsql
immutable
strict
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_path_exists(
        p_json,
        'strict $ ? (
            exists (@.** ? (@ > 1.7976931348623157e308 || @ < -1.7976931348623157e308
                || @ > -5e-324 && @ < 5e-324 && @ != 0))
            || exists (@.**{64} ? (@.type() == "array" || @.type() == "object"))
        )'
    ) or exists (
        select
        -- jsonb_path_query itself takes the square of their count.
        from jsonb_array_elements(
            jsonb_path_query_array(p_json, 'strict $.** ? (@.type() == "number")')
        ) as found (number)
        where scale(found.number::numeric) > 400
    );
end
$$;

comment on function ledger_private.is_odd_json(jsonb) is
    'Whether JSON nests deeper than 64, or has a number that is out of the range of a double or has more '
    'than 400 decimals.';

create or replace function ledger_private.shape_fault(p_span ledger.universal_registry)
returns text
language plpgsql
stable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return case
        when p_span.entity_type !~ '^[a-z][a-z0-9_.-]{0,62}$'
            then 'entity_type: a lower-case letter, then lower-case letters, digits, _ . or -; at most 63'
        when char_length(p_span.who) not between 1 and 256
            then 'who: 1 to 256 characters'
        when char_length(p_span.did) > 1000
            then 'did: at most 1000 characters'
        when char_length(p_span.this) > 1000
            then 'this: at most 1000 characters'
        when char_length(p_span.name) > 1000
            then 'name: at most 1000 characters'
        when char_length(p_span.confirmed_by) > 1000
            then 'confirmed_by: at most 1000 characters'
        when char_length(p_span.if_ok) > 4000
            then 'if_ok: at most 4000 characters'
        when char_length(p_span.if_doubt) > 4000
            then 'if_doubt: at most 4000 characters'
        when char_length(p_span.if_not) > 4000
            then 'if_not: at most 4000 characters'
        when char_length(p_span.reason) > 4000
            then 'reason: at most 4000 characters'
        when char_length(p_span.description) > 20000
            then 'description: at most 20000 characters'
        when octet_length(p_span.code) > 262144
            then 'code: at most 256 KiB'
        when p_span.at < '0001-01-01 00:00:00+00'
                or p_span.at >= '10000-01-01 00:00:00+00'
            then 'at: a finite time in the years 1 to 9999'
        when p_span.scheduled_at < '0001-01-01 00:00:00+00'
                or p_span.scheduled_at >= '10000-01-01 00:00:00+00'
            then 'scheduled_at: a finite time in the years 1 to 9999'
        when p_span.effective_at < '0001-01-01 00:00:00+00'
                or p_span.effective_at >= '10000-01-01 00:00:00+00'
            then 'effective_at: a finite time in the years 1 to 9999'
        when p_span.expires_at < '0001-01-01 00:00:00+00'
                or p_span.expires_at >= '10000-01-01 00:00:00+00'
            then 'expires_at: a finite time in the years 1 to 9999'
        when p_span.ttl_at < '0001-01-01 00:00:00+00'
                or p_span.ttl_at >= '10000-01-01 00:00:00+00'
            then 'ttl_at: a finite time in the years 1 to 9999'
        when char_length(p_span.owner_id) not between 1 and 200
            then 'owner_id: 1 to 200 characters'
        when char_length(p_span.tenant_id) not between 1 and 200
            then 'tenant_id: 1 to 200 characters'
        when p_span.visibility not in ('private', 'tenant', 'public')
            then 'visibility: private, tenant or public'
        when p_span.status !~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'
            then 'status: a letter, then letters, digits, _ . or -; at most 63'
        when p_span.sensitivity not in ('public', 'internal', 'secret', 'pii')
            then 'sensitivity: public, internal, secret or pii'
        when p_span.layer not in ('session', 'temporary', 'permanent', 'shared', 'local')
            then 'layer: session, temporary, permanent, shared or local'
        when char_length(p_span.trace_id) not between 1 and 256
            then 'trace_id: 1 to 256 characters'
        when char_length(p_span.session_id) not between 1 and 256
            then 'session_id: 1 to 256 characters'
        when char_length(p_span.idempotency_key) not between 1 and 256
            then 'idempotency_key: 1 to 256 characters'
        when char_length(p_span.app_id) not between 1 and 256
            then 'app_id: 1 to 256 characters'
        when char_length(p_span.device_id) not between 1 and 256
            then 'device_id: 1 to 256 characters'
        when char_length(p_span.schema_id) not between 1 and 256
            then 'schema_id: 1 to 256 characters'
        when char_length(p_span.model) not between 1 and 256
            then 'model: 1 to 256 characters'
        when char_length(p_span.sig_key_id) not between 1 and 256
            then 'sig_key_id: 1 to 256 characters'
        when char_length(p_span.severity) not between 1 and 128
            then 'severity: 1 to 128 characters'
        when char_length(p_span.kind) not between 1 and 128
            then 'kind: 1 to 128 characters'
        when char_length(p_span.version) not between 1 and 128
            then 'version: 1 to 128 characters'
        when char_length(p_span.language) not between 1 and 128
            then 'language: 1 to 128 characters'
        when char_length(p_span.runtime) not between 1 and 128
            then 'runtime: 1 to 128 characters'
        when char_length(p_span.unit) not between 1 and 128
            then 'unit: 1 to 128 characters'
        when char_length(p_span.sig_alg) not between 1 and 128
            then 'sig_alg: 1 to 128 characters'
        when cardinality(p_span.related_to) > 1000
                or array_ndims(p_span.related_to) > 1
                or array_lower(p_span.related_to, 1) <> 1
                or array_position(p_span.related_to, null) is not null
            then 'related_to: one dimension from 1, no nulls, at most 1000 ids'
        when octet_length(p_span.scopes::text) > 65536
                or cardinality(p_span.scopes) > 1000
                or array_ndims(p_span.scopes) > 1
                or array_lower(p_span.scopes, 1) <> 1
                or array_position(p_span.scopes, null) is not null
            then 'scopes: one dimension from 1, no nulls, at most 1000 and 64 KiB'
        when octet_length(p_span.tags::text) > 65536
                or cardinality(p_span.tags) > 1000
                or array_ndims(p_span.tags) > 1
                or array_lower(p_span.tags, 1) <> 1
                or array_position(p_span.tags, null) is not null
            then 'tags: one dimension from 1, no nulls, at most 1000 and 64 KiB'
        when p_span.timeout_ms not between 1 and 86400000
            then 'timeout_ms: 1 to 86400000, a day'
        when p_span.attempt < 0
            then 'attempt: not negative'
        when p_span.duration_ms < 0
            then 'duration_ms: not negative'
        when p_span.tokens_in < 0
            then 'tokens_in: not negative'
        when p_span.tokens_out < 0
            then 'tokens_out: not negative'
        when p_span.tool_use_count < 0
            then 'tool_use_count: not negative'
        when abs(p_span.value) >= 1e38 or scale(p_span.value) > 38
            then 'value: finite, at most 38 digits on either side of the point'
        when abs(p_span.cost) >= 1e38 or scale(p_span.cost) > 38
            then 'cost: finite, at most 38 digits on either side of the point'
        when p_span.confidence not between 0 and 1 or scale(p_span.confidence) > 38
            then 'confidence: 0 to 1, at most 38 digits'
        when p_span.compiled_hash !~ '^[0-9a-f]{64}$'
            then 'compiled_hash: 64 lower-case hex digits'
        when p_span.prev_hash !~ '^[0-9a-f]{64}$'
            then 'prev_hash: 64 lower-case hex digits'
        when p_span.curr_hash !~ '^[0-9a-f]{64}$'
            then 'curr_hash: 64 lower-case hex digits'
        when p_span.public_key !~ '^[0-9a-f]{64}$'
            then 'public_key: 64 lower-case hex digits'
        when p_span.signature !~ '^[0-9a-f]{128}$'
            then 'signature: 128 lower-case hex digits'
        when p_span.signature is not null and (p_span.curr_hash is null or p_span.public_key is null)
            then 'signature: needs curr_hash and public_key beside it'
        when pg_column_size(p_span) > 4718592
            then 'span: at most 1 MiB in text form'
        when ledger_private.is_odd_json(p_span.links)
            then 'links: JSON at most 64 deep; numbers in the range of a double, 400 decimals'
        when ledger_private.is_odd_json(p_span.content)
            then 'content: JSON at most 64 deep; numbers in the range of a double, 400 decimals'
        when ledger_private.is_odd_json(p_span.input)
            then 'input: JSON at most 64 deep; numbers in the range of a double, 400 decimals'
        when ledger_private.is_odd_json(p_span.output)
            then 'output: JSON at most 64 deep; numbers in the range of a double, 400 decimals'
        when ledger_private.is_odd_json(p_span.error)
            then 'error: JSON at most 64 deep; numbers in the range of a double, 400 decimals'
        when ledger_private.is_odd_json(p_span.metadata)
            then 'metadata: JSON at most 64 deep; numbers in the range of a double, 400 decimals'
        when jsonb_typeof(p_span.links) <> 'object' or octet_length(p_span.links::text) > 262144
            then 'links: a JSON object of at most 256 KiB'
        when jsonb_typeof(p_span.metadata) <> 'object' or octet_length(p_span.metadata::text) > 262144
            then 'metadata: a JSON object of at most 256 KiB'
        when octet_length(p_span.error::text) > 262144
            then 'error: at most 256 KiB'
        when octet_length(concat(
                p_span.entity_type, p_span.who, p_span.did, p_span.this, p_span.confirmed_by,
                p_span.if_ok, p_span.if_doubt, p_span.if_not, p_span.related_to, p_span.links,
                p_span.trace_id, p_span.session_id, p_span.idempotency_key, p_span.owner_id,
                p_span.tenant_id, p_span.visibility, p_span.sensitivity, p_span.scopes, p_span.app_id,
                p_span.device_id, p_span.status, p_span.reason, p_span.severity, p_span.name,
                p_span.description, p_span.kind, p_span.version, p_span.tags, p_span.layer,
                p_span.schema_id, p_span.content, p_span.code, p_span.language, p_span.runtime,
                p_span.input, p_span.output, p_span.error, p_span.value, p_span.unit,
                p_span.confidence, p_span.model, p_span.cost, p_span.compiled_hash, p_span.prev_hash,
                p_span.curr_hash, p_span.signature, p_span.public_key, p_span.sig_alg,
                p_span.sig_key_id, p_span.metadata
            )) > 1048576
            then 'span: at most 1 MiB in text form'
    end;
end
$$;

comment on function ledger_private.shape_fault(ledger.universal_registry) is
    'What is malformed in a span, as column: limit, the first of it; null where nothing is. Column span is '
    'all of it.';

create or replace function ledger_private.refuse_shape(p_fault text)
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_column text := split_part(p_fault, ':', 1);
begin
    -- As a check of this name on the table would say it.
    raise exception using
        errcode = 'LL017',
        schema = 'ledger',
        table = 'universal_registry',
        column = case v_column when 'span' then '' else v_column end,
        constraint = 'universal_registry_' || v_column || '_check',
        message = 'the span is malformed: ' || case v_column
            when 'span' then 'the whole ' || p_fault
            else 'column ' || p_fault
        end,
        hint = case v_column
            when 'span' then 'Keep large bodies elsewhere, and their hash in here.'
            else 'Mend column ' || v_column
                || '; its comment in ledger.universal_registry says what it is for.'
        end;
end
$$;

comment on function ledger_private.refuse_shape(text) is
    'Refuses a malformed span by the name of a check: universal_registry_<column>_check.';

revoke all on function
    ledger_private.is_odd_json(jsonb), ledger_private.shape_fault(ledger.universal_registry),
    ledger_private.refuse_shape(text)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function
    ledger_private.is_odd_json(jsonb), ledger_private.shape_fault(ledger.universal_registry),
    ledger_private.refuse_shape(text)
    to authenticated, service_role, loglineos_sidecar;

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
-- A case, not an or: of an or the planner makes a bitmap of everything that the reader may read, and sorts
-- it, whatever the query asks for (docs/plans.md). The same rules stand in ledger_private.is_superseded.
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
        and case visibility
            when 'tenant' then tenant_id = (select ledger.current_tenant_id())
            when 'public' then true
            else owner_id = (select ledger.current_user_id())
                and tenant_id = (select ledger.current_tenant_id())
        end
    );

comment on policy universal_registry_select_authenticated on ledger.universal_registry is
    'A client reads its own rows, the tenant rows of its tenant, and public rows.';

-- current_user_id and current_tenant_id written out, for a call costs 10 microseconds of each insert, and in
-- one select, for each is an expression tree of its own; offset 0 keeps the claims from being read twice. The
-- trigger before (30_guards) is the stricter one: it has refused claims that are malformed.
drop policy if exists universal_registry_insert_authenticated on ledger.universal_registry;
create policy universal_registry_insert_authenticated on ledger.universal_registry
    for insert
    to authenticated
    with check (
        (owner_id, tenant_id) = (
            select
                token.claims ->> 'sub',
                coalesce(token.claims #>> '{app_metadata,tenant_id}', token.claims ->> 'tenant_id')
            from (
                select nullif(setting.claims, '')::jsonb as claims
                -- Supabase's linter wants to see it right behind a select.
                from (select current_setting('request.jwt.claims', true) as claims) as setting
                offset 0
            ) as token
        )
        or owner_id = 'system' and tenant_id = 'system' and ledger.is_governor()
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
        and case visibility
            when 'tenant' then tenant_id = (select ledger.current_tenant_id())
            when 'public' then true
            else owner_id = (select ledger.current_user_id())
                and tenant_id = (select ledger.current_tenant_id())
        end
    );

comment on policy universal_registry_select_kernel on ledger.universal_registry is
    'Ledger code reads what the user reads on whose behalf it runs (app.user_id, app.tenant_id).';

-- Where the owner has neither superuser nor BYPASSRLS, FORCE binds it, and it needs policies to boot
-- the system and to look up the version before. A new owner needs them anew: after a restore under
-- another one, ledger.import_end() asks for them.
create or replace function ledger_private.mend_owner_policies()
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner oid := (select relowner from pg_class where oid = 'ledger.universal_registry'::regclass);
begin
    if (
        select count(*)
        from pg_policy
        where polrelid = 'ledger.universal_registry'::regclass
            and polname in ('universal_registry_select_owner', 'universal_registry_insert_owner')
            and polroles = array[v_owner]
    ) = 2 then
        return;
    end if;
    drop policy if exists universal_registry_select_owner on ledger.universal_registry;
    drop policy if exists universal_registry_insert_owner on ledger.universal_registry;
    execute format(
        'create policy universal_registry_select_owner on ledger.universal_registry'
        ' for select to %I using (true)',
        pg_get_userbyid(v_owner)
    );
    execute format(
        'create policy universal_registry_insert_owner on ledger.universal_registry'
        ' for insert to %I with check (true)',
        pg_get_userbyid(v_owner)
    );
    comment on policy universal_registry_select_owner on ledger.universal_registry is
        'The definer triggers read the version before.';
    comment on policy universal_registry_insert_owner on ledger.universal_registry is
        'The owner boots the system; what it may append, the triggers say.';
end
$$;

comment on function ledger_private.mend_owner_policies() is
    'Gives the ledger''s owner its policies, where they are another''s or missing. For the owner.';

revoke all on function ledger_private.mend_owner_policies()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

do $owner$
begin
    perform ledger_private.mend_owner_policies();
end
$owner$;

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

-- 54 engine: the schema engine anew, where somebody has dropped it. Nothing is lost with it: the sidecar makes
-- its tables again and reads the ledger.

-- Definer: the sidecar may not create schemas, and one of its own making would be no wall of the ledger's
-- (85_guard_check asks who owns it). And only the owner may hand over what is his.
create or replace function ledger_private.make_engine()
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner text;
    v_table record;
begin
    -- Every sidecar that misses its tables calls this at once; of two that grant, one would fail.
    perform pg_advisory_xact_lock(hashtextextended('ledger_private.make_engine', 0));
    select n.nspowner::regrole::text
    into v_owner
    from pg_catalog.pg_namespace as n
    where n.nspname = 'engine';
    if v_owner is null then
        create schema engine;
        comment on schema engine is
            'Working memory of the sidecar: cursors, leases, counters. Disposable: rebuilt from the ledger. '
            'Never exposed.';
        revoke all on schema engine from public;
    elsif v_owner <> quote_ident(current_user) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'schema engine belongs to ' || v_owner || ', not to the owner of the ledger',
            hint = format('Look what it is. If nobody needs it: drop schema engine cascade. Else: alter '
                'schema engine owner to %I', current_user);
    end if;
    if not (
        has_schema_privilege('loglineos_sidecar', 'engine', 'usage')
        and has_schema_privilege('loglineos_sidecar', 'engine', 'create')
    ) then
        grant usage, create on schema engine to loglineos_sidecar;
    end if;
    -- pg_restore --no-owner makes the sidecar's tables the owner's, and no sidecar could use them.
    for v_table in
        select c.oid::regclass::text as name
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'engine'
            and c.relkind = 'r'
            and c.relowner = quote_ident(current_user)::regrole
    loop
        execute 'alter table ' || v_table.name || ' owner to loglineos_sidecar';
    end loop;
end
$$;

comment on function ledger_private.make_engine() is
    'Makes the schema engine and its grants, whichever is gone, and gives its tables to the sidecar where a '
    'restore made them the owner''s. For the sidecar, which calls it where one of its tables is missing. It '
    'refuses a schema of another owner.';

revoke all on function ledger_private.make_engine()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.make_engine() to loglineos_sidecar;

-- 60 timeline: what is now, and what ever was. Both obey the reader's own rights.
--
-- Views without security_barrier: it would make the planner read and sort everything that a view holds
-- before it looks at order and limit (docs/plans.md), and would hide nothing: what a view leaves out, its
-- reader may read in history. Whose rows one may read is the policies' affair, and those do hold leaky
-- functions off.

-- Definer: the newest version may be hidden from a reader of an older one, and then the older one is
-- no longer what is. It tells about what its caller may read and of nothing else: whoever asks after
-- another's span hears the same as after none. The policies' rules (50_access) are said again here,
-- because a definer's query is not under its caller's. plan_cache_mode: as_of sets it for itself, and what
-- it calls would inherit that and plan anew for each row.
create or replace function ledger_private.is_superseded(
    p_id uuid,
    p_seq integer,
    p_at timestamptz default 'infinity'
)
returns boolean
language plpgsql
stable
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
as $$
declare
    v_caller text;
    v_user text;
    v_tenant text;
begin
    if not exists (
        select
        from ledger.universal_registry as newer
        where newer.id = p_id
            and newer.seq > p_seq
            and newer.accepted_at <= p_at
    ) then
        return false;
    end if;

    -- Inside a definer function current_user is its owner; the role that was set is still in sight.
    v_caller := coalesce(nullif(current_setting('role', true), 'none'), session_user);
    if v_caller = 'loglineos_kernel' then
        v_user := nullif(current_setting('app.user_id', true), '');
        v_tenant := nullif(current_setting('app.tenant_id', true), '');
    elsif v_caller <> 'authenticated' and (
        v_caller = current_user
        or pg_has_role(v_caller, 'service_role', 'usage')
        or pg_has_role(v_caller, 'loglineos_sidecar', 'usage')
        or exists (select from pg_roles where rolname = v_caller and rolbypassrls)
    ) then
        return true;
    elsif pg_has_role(v_caller, 'authenticated', 'usage') then
        v_user := ledger.current_user_id();
        v_tenant := ledger.current_tenant_id();
    end if;
    return v_user is not null and exists (
        select
        from ledger.universal_registry as r
        where r.id = p_id
            and r.seq = p_seq
            and case r.visibility
                when 'tenant' then r.tenant_id = v_tenant
                when 'public' then true
                else r.owner_id = v_user and r.tenant_id = v_tenant
            end
    );
end
$$;

comment on function ledger_private.is_superseded(uuid, integer, timestamptz) is
    'Whether this version has a newer one that was there at p_at, visible to the caller or not. False '
    'also for whatever the caller may not read. For the views.';

-- A scalar subquery on purpose. Of "not exists" the planner makes a join or a hash of the whole ledger, and
-- of "is null" it guesses that hardly a row is left: either way it reads all where a page was asked for.
create or replace view ledger.visible_timeline
with (security_invoker = true)
as
select
    r.at as "when",
    r.*
from ledger.universal_registry as r
where not r.is_deleted
    and not coalesce(
        (
            select true
            from ledger.universal_registry as newer
            where newer.id = r.id
                and newer.seq = r.seq + 1
        ),
        false
    )
    -- Who reads a private row reads all its versions: the test above was exact. Others ask.
    and (r.visibility = 'private' or not ledger_private.is_superseded(r.id, r.seq));

comment on view ledger.visible_timeline is
    'The newest version of every span that the reader may see and that is not deleted. Served by an '
    'index with a filter on id, owner_id, tenant_id, parent_id or trace_id; order by "when" desc, id desc, '
    'alone or with owner_id, tenant_id, or tenant_id and entity_type. Who may see little of a large ledger '
    'states owner_id or tenant_id, or asks ledger.as_of.';

create or replace view ledger.history
with (security_invoker = true)
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

revoke all on function ledger_private.is_superseded(uuid, integer, timestamptz)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.is_superseded(uuid, integer, timestamptz)
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- Until 0.2.0 the view asked this one, and it told anybody about anything. Here and not in sql/upgrade,
-- because the view had to be made anew before.
drop function if exists ledger.has_version(uuid, integer);

-- 62 as_of: the ledger as it stood.
--
-- Not a function that the planner opens up (language sql, no setting), to which clients could add any
-- filter: Supabase's linter reports every function without a search_path. So it has parameters, gives
-- pages, and each page costs what it holds: the three things that one may read (one's own, what the
-- tenant shares, what is public) have an index each, and a page is the newest of the three.

-- What is over is told by the reader's own rights, as in visible_timeline; only of a newer version that they hide
-- is_superseded knows. So it holds also in a definer function of the owner's, whose rights are not its caller's.
--
-- plan_cache_mode: parameters that are absent must fall out of the plan. jit: compiling takes longer than any
-- page.
create or replace function ledger.as_of(
    p_at timestamptz,
    p_id uuid default null,
    p_entity_type text default null,
    p_tenant_id text default null,
    p_limit integer default 100,
    p_before timestamptz default null,
    p_before_id uuid default null
)
returns setof ledger.history
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set jit = off
as $$
declare
    -- Whoever is held by claims, of whatever name; the others read every tenant.
    v_is_client boolean := row_security_active('ledger.universal_registry')
        and not pg_has_role('service_role', 'usage')
        and not pg_has_role('loglineos_sidecar', 'usage')
        and not pg_has_role(
            (select relowner from pg_class where oid = 'ledger.universal_registry'::regclass),
            'usage'
        );
    v_user text := ledger.current_user_id();
    v_tenant text := ledger.current_tenant_id();
    v_before timestamptz := coalesce(p_before, p_at + interval '5 minutes');
    v_fault text;
begin
    v_fault := case
        when p_at is null then 'p_at is null'
        when p_limit is null or p_limit not between 1 and 1000 then 'p_limit is not 1 to 1000'
        when p_before_id is not null and p_before is null then 'p_before_id without p_before'
        when not v_is_client and p_id is null and p_tenant_id is null
            then 'this role reads every tenant and states neither p_id nor p_tenant_id'
    end;
    if v_fault is not null then
        raise exception using
            errcode = 'LL017',
            message = 'as_of: ' || v_fault,
            hint = 'State p_at, and p_limit 1 to 1000. Next page: p_before and p_before_id are "when" and '
                'id of the last row. A backend states p_tenant_id, too.';
    end if;

    -- One thing, or a backend that states the tenant: one index serves.
    if p_id is not null or not v_is_client then
        return query
        select r.at as "when", r.*
        from ledger.universal_registry as r
        where (p_id is null or r.id = p_id)
            and (p_tenant_id is null or r.tenant_id = p_tenant_id)
            and (p_entity_type is null or r.entity_type = p_entity_type)
            and (r.at <= v_before or p_before is null and p_id is not null)
            and (r.at < v_before or p_before is null or r.id < p_before_id)
            and r.accepted_at <= p_at
            and not r.is_deleted
            and not coalesce(
                (
                    select true
                    from ledger.universal_registry as newer
                    where newer.id = r.id
                        and newer.seq > r.seq
                        and newer.accepted_at <= p_at
                    limit 1
                ),
                false
            )
            and (r.visibility = 'private' or not ledger_private.is_superseded(r.id, r.seq, p_at))
        order by r.at desc, r.id desc
        limit p_limit;
        return;
    end if;

    return query
    with page as (
        (
            select r.id, r.seq, r.at
            from ledger.universal_registry as r
            -- Nothing about the tenant, which the policies see to: the planner would take both for independent
            -- and guess that hardly a row is left.
            where r.owner_id = v_user
                and r.at <= v_before
                and (r.at < v_before or p_before is null or r.id < p_before_id)
                and r.accepted_at <= p_at
                and not r.is_deleted
                and (p_entity_type is null or r.entity_type = p_entity_type)
                and (p_tenant_id is null or r.tenant_id = p_tenant_id)
                and not coalesce(
                    (
                        select true
                        from ledger.universal_registry as newer
                        where newer.id = r.id
                            and newer.seq > r.seq
                            and newer.accepted_at <= p_at
                        limit 1
                    ),
                    false
                )
                and (r.visibility = 'private' or not ledger_private.is_superseded(r.id, r.seq, p_at))
            order by r.at desc, r.id desc
            limit p_limit
        )
        union all
        (
            select r.id, r.seq, r.at
            from ledger.universal_registry as r
            where r.visibility = 'tenant'
                and r.tenant_id = v_tenant
                and r.owner_id <> v_user
                and r.at <= v_before
                and (r.at < v_before or p_before is null or r.id < p_before_id)
                and r.accepted_at <= p_at
                and not r.is_deleted
                and (p_entity_type is null or r.entity_type = p_entity_type)
                and (p_tenant_id is null or r.tenant_id = p_tenant_id)
                and not coalesce(
                    (
                        select true
                        from ledger.universal_registry as newer
                        where newer.id = r.id
                            and newer.seq > r.seq
                            and newer.accepted_at <= p_at
                        limit 1
                    ),
                    false
                )
                and (r.visibility = 'private' or not ledger_private.is_superseded(r.id, r.seq, p_at))
            order by r.at desc, r.id desc
            limit p_limit
        )
        union all
        (
            select r.id, r.seq, r.at
            from ledger.universal_registry as r
            where r.visibility = 'public'
                and r.owner_id <> v_user
                and r.at <= v_before
                and (r.at < v_before or p_before is null or r.id < p_before_id)
                and r.accepted_at <= p_at
                and not r.is_deleted
                and (p_entity_type is null or r.entity_type = p_entity_type)
                and (p_tenant_id is null or r.tenant_id = p_tenant_id)
                and not coalesce(
                    (
                        select true
                        from ledger.universal_registry as newer
                        where newer.id = r.id
                            and newer.seq > r.seq
                            and newer.accepted_at <= p_at
                        limit 1
                    ),
                    false
                )
                and (r.visibility = 'private' or not ledger_private.is_superseded(r.id, r.seq, p_at))
            order by r.at desc, r.id desc
            limit p_limit
        )
        order by 3 desc, 1 desc
        limit p_limit
    )
    select r.at as "when", r.*
    from page
    join ledger.universal_registry as r using (id, seq)
    order by r.at desc, r.id desc;
end
$$;

comment on function ledger.as_of(timestamptz, uuid, text, text, integer, timestamptz, uuid) is
    'The ledger as it stood at p_at: of each id the newest version accepted until then, unless that one '
    'deletes it; under the reader''s rights, newest event first. p_at => now() is everything that the '
    'reader may read now. A page has p_limit rows (100 if absent, 1000 at most): a full page may have a '
    'next one; ask for it with p_before and p_before_id, the "when" and id of the last row. Absent p_before: '
    'p_at plus 5 minutes, later than which no client dates an event. Filters: p_id, p_entity_type, '
    'p_tenant_id (a backend, which reads every tenant, must state p_tenant_id or p_id). What an API '
    'filters beyond that, it filters within the page. Transactions under way at p_at may still add rows.';

revoke all on function ledger.as_of(timestamptz, uuid, text, text, integer, timestamptz, uuid)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.as_of(timestamptz, uuid, text, text, integer, timestamptz, uuid)
    to authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- 64 result: what became of a call.
--
-- It never waits: a call that waits inside the database holds one of the API's few connections. Clients
-- ask again.
--
-- The execution, or where a kernel was called the provider_execution, is committed with the request's last
-- version, in one statement: it is found by what was called, the owner and that very moment
-- (universal_registry_parent_owner_idx).

create or replace function ledger.result(p_request_id uuid)
returns table (
    request_id uuid,
    status text,
    is_done boolean,
    function_id uuid,
    function_seq integer,
    attempt integer,
    execution_id uuid,
    output jsonb,
    error jsonb,
    reason text,
    duration_ms integer,
    requested_at timestamptz,
    done_at timestamptz
)
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        q.id,
        q.status,
        q.status in ('complete', 'error', 'dead', 'cancelled'),
        q.parent_id,
        -- A number in stranger's JSON: read as text, so that none can break the call.
        substring(
            coalesce(
                e.metadata #>> '{run,function,seq}',
                q.metadata #>> '{function,seq}'
            )
            from '^[0-9]{1,9}$'
        )::integer,
        coalesce(e.attempt, q.attempt),
        e.id,
        e.output,
        coalesce(e.error, q.error),
        coalesce(q.reason, e.reason),
        e.duration_ms,
        (
            select first.accepted_at
            from ledger.universal_registry as first
            where first.id = q.id
                and first.seq = 0
        ),
        case when q.status in ('complete', 'error', 'dead', 'cancelled') then q.accepted_at end
    from ledger.visible_timeline as q
    left join lateral (
        select r.id, r.attempt, r.output, r.error, r.reason, r.duration_ms, r.metadata
        from ledger.universal_registry as r
        where r.parent_id = q.parent_id
            and r.owner_id = q.owner_id
            and r.accepted_at = q.accepted_at
            and r.tenant_id = q.tenant_id
            and r.xact = q.xact
            and r.entity_type in ('execution', 'provider_execution')
            and q.id = any(r.related_to)
        order by r.entity_type, r.attempt desc nulls last
        limit 1
    ) as e on true
    where q.id = p_request_id
        and q.entity_type = 'request';
end
$$;

comment on function ledger.result(uuid) is
    'What became of a request: one row, or none where there is no such request that the caller may read. '
    'is_done says whether to stop asking: status is complete, error, dead or cancelled. Otherwise it is '
    'scheduled, running, retry, blocked or cancel_requested: ask again, once a second at most. output, '
    'error and duration_ms are those of the execution, or of the provider_execution where the request called '
    'provider_exec; reason is why there is none. Times are accepted_at.';

revoke all on function ledger.result(uuid)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.result(uuid)
    to authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- 66 function state: what there is to call, and how it went last time.
--
-- Runs are the reader's own; of a reader without a user (a backend, the owner) the function owner's. They
-- are found by function, owner and time (universal_registry_parent_owner_idx), the newest first, and never
-- more than a hundred of a function are looked at.

create or replace view ledger.function_state
with (security_invoker = true)
as
select
    f.at as "when",
    f.id,
    f.seq,
    f.name,
    f.owner_id,
    f.tenant_id,
    f.visibility,
    f.status,
    f.accepted_at as changed_at,
    request.id as last_request_id,
    (
        select newest.status
        from ledger.universal_registry as newest
        where newest.id = request.id
        order by newest.seq desc
        limit 1
    ) as last_request_status,
    request.accepted_at as last_request_at,
    execution.id as last_execution_id,
    execution.status as last_execution_status,
    execution.duration_ms as last_execution_duration_ms,
    execution.accepted_at as last_execution_at,
    execution.error ->> 'code' as last_execution_error_code,
    (
        select count(*)::integer
        from (
            select (
                select newest.status
                from ledger.universal_registry as newest
                where newest.id = r.id
                order by newest.seq desc
                limit 1
            ) as status
            from ledger.universal_registry as r
            where r.parent_id = f.id
                and r.owner_id = caller.owner_id
                and r.tenant_id = caller.tenant_id
                and r.entity_type = 'request'
                and r.seq = 0
            order by r.accepted_at desc
            limit 100
        ) as recent
        where recent.status in ('scheduled', 'running', 'retry', 'blocked', 'cancel_requested')
    ) as open_requests
from ledger.visible_timeline as f
-- A case: under row level security a coalesce is taken for leaky and keeps owner_id from the index.
cross join lateral (
    select
        case
            when (select ledger.current_user_id()) is null then f.owner_id
            else (select ledger.current_user_id())
        end as owner_id,
        case
            when (select ledger.current_user_id()) is null then f.tenant_id
            else (select ledger.current_tenant_id())
        end as tenant_id
) as caller
left join lateral (
    select r.id, r.accepted_at
    from ledger.universal_registry as r
    where r.parent_id = f.id
        and r.owner_id = caller.owner_id
        and r.tenant_id = caller.tenant_id
        and r.entity_type = 'request'
        and r.seq = 0
    order by r.accepted_at desc
    limit 1
) as request on true
left join lateral (
    select r.id, r.status, r.duration_ms, r.accepted_at, r.error
    from ledger.universal_registry as r
    where r.parent_id = f.id
        and r.owner_id = caller.owner_id
        and r.tenant_id = caller.tenant_id
        and r.entity_type = 'execution'
    order by r.accepted_at desc
    limit 1
) as execution on true
where f.entity_type = 'function';

comment on view ledger.function_state is
    'Every function that the reader may read, in its newest version, with the reader''s own last request '
    'and execution of it (for a backend and the owner: those of the function''s owner). Served by an index '
    'with a filter on id, or on tenant_id and order by "when" desc.';
comment on column ledger.function_state."when" is
    'Event time of the newest version.';
comment on column ledger.function_state.id is
    'The function.';
comment on column ledger.function_state.seq is
    'Its newest version.';
comment on column ledger.function_state.name is
    'Its name.';
comment on column ledger.function_state.owner_id is
    'Whose it is.';
comment on column ledger.function_state.tenant_id is
    'The tenant it belongs to.';
comment on column ledger.function_state.visibility is
    'Who may read and call it: private, tenant or public.';
comment on column ledger.function_state.status is
    'Status of the newest version: draft, active, scheduled, archived, deprecated or revoked.';
comment on column ledger.function_state.changed_at is
    'When the database received the newest version.';
comment on column ledger.function_state.last_request_id is
    'The last request for it; null without.';
comment on column ledger.function_state.last_request_status is
    'Where that request stands now.';
comment on column ledger.function_state.last_request_at is
    'When the database received that request.';
comment on column ledger.function_state.last_execution_id is
    'The last execution of it; null without.';
comment on column ledger.function_state.last_execution_status is
    'How that ended: complete or error.';
comment on column ledger.function_state.last_execution_duration_ms is
    'How long it ran, in milliseconds.';
comment on column ledger.function_state.last_execution_at is
    'When the database received that execution.';
comment on column ledger.function_state.last_execution_error_code is
    'The code of its error, for example timeout; null where it completed.';
comment on column ledger.function_state.open_requests is
    'How many of the last 100 requests for it are still open. Costs more than the rest together: leave '
    'it out of a select that does not need it.';

revoke all on ledger.function_state
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant select on ledger.function_state
    to authenticated, service_role, loglineos_sidecar, loglineos_kernel;

-- 70 indexes: few, for each insert pays for each one (3 to 4 microseconds a row; docs/plans.md). GIN indexes
-- are the user's own choice.

create index if not exists universal_registry_tenant_type_at_idx
    on ledger.universal_registry (tenant_id, entity_type, at desc);

comment on index ledger.universal_registry_tenant_type_at_idx is
    'The timeline of a tenant, by type, newest first; function_state.';

create index if not exists universal_registry_tenant_at_idx
    on ledger.universal_registry (tenant_id, at desc);

comment on index ledger.universal_registry_tenant_at_idx is
    'The timeline of a tenant, all types, newest first.';

-- Of whom nothing is asked but the newest: the walk ends when the page is full of what the reader may see. Who may
-- see little walks far, but never sorts the ledger. Branches of a union for each way to be readable would serve
-- him better and everybody else worse (docs/plans.md).
create index if not exists universal_registry_at_idx
    on ledger.universal_registry (at desc);

comment on index ledger.universal_registry_at_idx is
    'A page of everything that the reader may see, newest first.';

-- Where a tenant has many users, most rows of it are hidden from each.
create index if not exists universal_registry_owner_at_idx
    on ledger.universal_registry (owner_id, at desc);

comment on index ledger.universal_registry_owner_at_idx is
    'The timeline of a user, newest first; as_of.';

create index if not exists universal_registry_shared_at_idx
    on ledger.universal_registry (tenant_id, at desc)
    where visibility = 'tenant';

comment on index ledger.universal_registry_shared_at_idx is
    'What a tenant shares, newest first; as_of.';

create index if not exists universal_registry_public_at_idx
    on ledger.universal_registry (at desc)
    where visibility = 'public';

comment on index ledger.universal_registry_public_at_idx is
    'What is public, newest first; as_of.';

create index if not exists universal_registry_ttl_idx
    on ledger.universal_registry (tenant_id, ttl_at)
    where ttl_at is not null;

comment on index ledger.universal_registry_ttl_idx is
    'What ends when, by tenant: the ttl_reaper.';

-- With the type: of a function with a million open requests the last execution is behind all of them.
create index if not exists universal_registry_parent_owner_idx
    on ledger.universal_registry (parent_id, owner_id, entity_type, accepted_at desc)
    where parent_id is not null;

comment on index ledger.universal_registry_parent_owner_idx is
    'Requests or executions of a function, of one caller, newest first; function_state, result.';

create index if not exists universal_registry_trace_idx
    on ledger.universal_registry (trace_id)
    where trace_id is not null;

comment on index ledger.universal_registry_trace_idx is
    'All spans of one flow.';

create index if not exists universal_registry_xact_idx
    on ledger.universal_registry (xact);

comment on index ledger.universal_registry_xact_idx is
    'Catch-up: what a snapshot had not seen.';

-- Open work, in two kinds. What was ever open is in here for ever: the reader passes over what has a version
-- after it, and marks keep it from beginning at the beginning (sidecar/ledger/open.go, which repeats the
-- conditions word for word).
create index if not exists universal_registry_open_idx
    on ledger.universal_registry (tenant_id, xact, id)
    where entity_type = 'request'
        and status in ('scheduled', 'running', 'retry', 'blocked', 'cancel_requested')
        and (
            scheduled_at is null
            or scheduled_at <= accepted_at
            or status in ('running', 'cancel_requested')
        );

comment on index ledger.universal_registry_open_idx is
    'Requests that may run, of a tenant, in the order of their transactions.';

create index if not exists universal_registry_due_idx
    on ledger.universal_registry (scheduled_at, id)
    where entity_type = 'request'
        and status in ('scheduled', 'retry', 'blocked')
        and scheduled_at > accepted_at;

comment on index ledger.universal_registry_due_idx is
    'Requests that were delayed, of all tenants, by when they are due.';

create index if not exists universal_registry_schedule_idx
    on ledger.universal_registry (id, seq)
    where entity_type = 'function'
        and metadata ? 'schedule';

comment on index ledger.universal_registry_schedule_idx is
    'Functions that recur: read when a sidecar takes over.';

create index if not exists universal_registry_policy_idx
    on ledger.universal_registry (id, seq)
    where entity_type = 'policy';

comment on index ledger.universal_registry_policy_idx is
    'The policies that a new leader goes by.';

-- A statement that an API has prepared is planned for any user, that is for the average one, who has few rows:
-- fetch all, then sort. For the busiest one that is a second a page. So the planner is to believe (from the
-- next analyze on) that there are few users and tenants, with many rows each; then it walks the index in order.
alter table ledger.universal_registry
    alter column owner_id set (n_distinct = 200),
    alter column tenant_id set (n_distinct = 200);

-- 75 append: the write doors that take JSON. They lay out the row and insert it: the guards, the policies
-- and the primary key judge it as they judge a plain INSERT, with the caller's own rights.
--
--     p_span ──► stated (keys, synonyms) ──► typed (a row) ──► INSERT … ON CONFLICT DO NOTHING
--                                            already there? ──► stored_span: the same, or 23505
--
-- The functions of ledger_private are steps of these two, invoker's like them, and give nobody anything.

create or replace function ledger_private.instant(p_key text, p_value jsonb)
returns timestamptz
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    -- With its offset: what means another instant tomorrow or elsewhere can not be sent twice.
    if p_value #>> '{}' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?'
        '[[:space:]]?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)$'
    then
        begin
            return (p_value #>> '{}')::timestamptz;
        exception
            when data_exception then null;
        end;
    end if;
    raise exception using
        errcode = 'LL017',
        message = 'the span is malformed: key ' || p_key
            || ': wanted a time with its offset (RFC 3339)',
        hint = 'Write it like 2026-11-23T04:05:06.789Z.';
end
$$;

comment on function ledger_private.instant(text, jsonb) is
    'The instant that a JSON string names, or LL017 about this key.';

-- Sooner than the guard, which would speak of a column that nobody has stated.
create or replace function ledger_private.refuse_metadata(p_column text, p_value text)
returns void
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A backend may write for anybody: its user's metadata must not choose for whom.
    if current_user = 'service_role' then
        raise exception using
            errcode = 'LL005',
            message = 'the span states no ' || p_column || ' but metadata.' || p_column
                || ', which is not believed of a backend',
            hint = 'State owner_id and tenant_id as keys of the span itself.';
    elsif current_user = 'authenticated'
        and p_value <> (
            case p_column when 'tenant_id' then ledger.current_tenant_id() else ledger.current_user_id() end
        )
        and not (p_value = 'system' and ledger.is_governor())
    then
        raise exception using
            errcode = 'LL006',
            message = 'metadata.' || p_column || ' is not the ' || p_column || ' of the verified token',
            hint = 'Leave ' || p_column || ' out of metadata, where it is another word for the column; a plain '
                'INSERT takes metadata as it is.';
    end if;
end
$$;

comment on function ledger_private.refuse_metadata(text, text) is
    'Refuses an owner or a tenant that only metadata states: to service_role always (LL005), to a client one '
    'that is not the token''s (LL006). For ledger.append.';

create or replace function ledger_private.stated(p_span jsonb)
returns jsonb
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stated jsonb;
    v_by jsonb := '{}'::jsonb;
    v_pair record;
    v_value jsonb;
    v_known jsonb;
    v_problem text;
begin
    if p_span is null or jsonb_typeof(p_span) <> 'object' then
        raise exception using
            errcode = 'LL017',
            message = 'the span is malformed: it is no JSON object',
            hint = 'Send {"p_span": {"entity_type": "note", …}} to ledger.append, {"p_spans": [{…}, …]} '
                'to ledger.append_batch.';
    end if;
    -- Most spans are what they state.
    if (
        p_span ?| array['when', 'digest', 'payload_hash', 'accepted_at', 'xact']
        or jsonb_typeof(p_span -> 'signature') = 'object'
        or p_span -> 'metadata' ?| array['tenant_id', 'owner_id', 'device_id', 'ts']
        or jsonb_path_exists(p_span, 'strict $.* ? (@ == null)')
    ) is not true then
        return p_span;
    end if;
    -- Null is not stated; what the database writes is passed over: a row can be sent as it was read.
    select coalesce(jsonb_object_agg(s.key, s.value), '{}')
    into v_stated
    from jsonb_each(p_span) as s
    where s.value <> 'null'
        and s.key not in ('accepted_at', 'xact', 'when', 'digest', 'payload_hash')
        and (s.key <> 'signature' or jsonb_typeof(s.value) <> 'object');

    -- The words that envelopes have for columns. metadata stays as it was sent: it is hashed.
    for v_pair in
        select s.column_name, s.word, s.value
        from (values
            ('at', 'when', p_span -> 'when'),
            ('curr_hash', 'digest', p_span -> 'digest'),
            ('curr_hash', 'payload_hash', p_span -> 'payload_hash'),
            ('sig_alg', 'signature.algo', p_span #> '{signature,algo}'),
            ('public_key', 'signature.pubkey', p_span #> '{signature,pubkey}'),
            ('signature', 'signature.sig', p_span #> '{signature,sig}'),
            ('tenant_id', 'metadata.tenant_id', p_span #> '{metadata,tenant_id}'),
            ('owner_id', 'metadata.owner_id', p_span #> '{metadata,owner_id}'),
            ('device_id', 'metadata.device_id', p_span #> '{metadata,device_id}'),
            ('at', 'metadata.ts', p_span #> '{metadata,ts}')
        ) as s (column_name, word, value)
        where s.value <> 'null'
    loop
        v_value := v_pair.value;
        v_known := v_stated -> v_pair.column_name;
        if v_pair.word in ('digest', 'payload_hash') then
            v_value := to_jsonb(substring(v_value #>> '{}' from '^b3:([0-9a-f]{64})$'));
        end if;
        v_problem := case
            when v_value is null then ': wanted b3: and 64 lower-case hex digits'
            when jsonb_typeof(v_value) <> 'string' then ': wanted a string'
            when v_pair.column_name = 'at' then case
                when ledger_private.instant(v_pair.word, v_value)
                    <> ledger_private.instant(coalesce(v_by ->> 'at', 'at'), coalesce(v_known, v_value))
                    then ''
            end
            when v_known <> v_value then ''
        end;
        if v_problem is not null then
            raise exception using
                errcode = 'LL017',
                message = 'the span is malformed: key ' || v_pair.word || coalesce(
                    nullif(v_problem, ''),
                    ' contradicts ' || coalesce(v_by ->> v_pair.column_name, v_pair.column_name)
                ),
                hint = 'It is another word for column ' || v_pair.column_name
                    || ': state one of them, or both alike. A plain INSERT takes metadata as it is.';
        end if;
        if v_known is null then
            if v_pair.word in ('metadata.tenant_id', 'metadata.owner_id') then
                perform ledger_private.refuse_metadata(v_pair.column_name, v_value #>> '{}');
            end if;
            v_stated := v_stated || jsonb_build_object(v_pair.column_name, v_value);
            v_by := v_by || jsonb_build_object(v_pair.column_name, v_pair.word);
        end if;
    end loop;
    if jsonb_typeof(p_span -> 'signature') = 'object'
        and (p_span -> 'signature') - array['algo', 'pubkey', 'sig'] <> '{}'
    then
        raise exception using
            errcode = 'LL017',
            message = 'the span is malformed: key signature: wanted a string, or an object of algo, pubkey '
                'and sig only',
            hint = 'State sig_alg, public_key and signature instead.';
    end if;
    return v_stated;
end
$$;

comment on function ledger_private.stated(jsonb) is
    'What a span in JSON states, by columns: without nulls, accepted_at and xact; other words for columns '
    'put into them (when, digest, payload_hash, signature {algo, pubkey, sig}, metadata.tenant_id, '
    'owner_id, device_id, ts). For ledger.append.';

create or replace function ledger_private.refuse_key(p_key text)
returns void
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_type text;
    v_near text;
begin
    select pg_catalog.format_type(a.atttypid, null)
    into v_type
    from pg_catalog.pg_attribute as a
    where a.attrelid = 'ledger.universal_registry'::regclass
        and a.attname = p_key
        and a.attnum > 0;
    if v_type is null and char_length(p_key) between 3 and 63 then
        select a.attname
        into v_near
        from pg_catalog.pg_attribute as a
        where a.attrelid = 'ledger.universal_registry'::regclass
            and a.attnum > 0
            and not a.attisdropped
            and position(lower(regexp_replace(p_key, '([a-z])([A-Z])', e'\\1_\\2', 'g')) in a.attname) > 0
        order by char_length(a.attname), a.attnum
        limit 1;
    end if;
    raise exception using
        errcode = 'LL017',
        message = 'the span is malformed: key ' || left(p_key, 63) || case v_type
            when 'uuid' then ': wanted a UUID in a string'
            when 'integer' then ': wanted a whole number of 32 bits'
            when 'numeric' then ': wanted a number, or one in a string'
            when 'boolean' then ': wanted true or false'
            when 'text[]' then ': wanted an array of strings'
            when 'uuid[]' then ': wanted an array of UUIDs in strings'
            when 'text' then ': wanted a string'
            else ' is no column'
        end,
        hint = case
            when v_type is null then coalesce('Did you mean ' || v_near || '? ', '')
                || 'Keys are the columns of ledger.universal_registry; what has no column goes into metadata.'
            else 'Mend key ' || p_key || ', or leave it out; null means the same.'
        end;
end
$$;

comment on function ledger_private.refuse_key(text) is
    'Raises LL017 about a key that is no column or whose value is of another type. For ledger.append.';

create or replace function ledger_private.typed(p_stated jsonb[])
returns ledger.universal_registry[]
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    -- What a column takes. Postgres itself would make text of anything, and drop a key that is no column.
    c_wanted constant jsonb := jsonb '{
        "id": "string", "seq": "number", "entity_type": "string", "who": "string", "did": "string",
        "this": "string", "at": "time", "confirmed_by": "string", "if_ok": "string",
        "if_doubt": "string", "if_not": "string", "scheduled_at": "time", "effective_at": "time",
        "expires_at": "time", "ttl_at": "time", "parent_id": "string", "related_to": "strings",
        "links": "any", "trace_id": "string", "session_id": "string", "idempotency_key": "string",
        "policy_id": "string", "owner_id": "string", "tenant_id": "string", "visibility": "string",
        "sensitivity": "string", "scopes": "strings", "app_id": "string", "device_id": "string",
        "status": "string", "is_deleted": "boolean", "reason": "string", "priority": "number",
        "severity": "string", "attempt": "number", "name": "string", "description": "string",
        "kind": "string", "version": "string", "tags": "strings", "layer": "string",
        "schema_id": "string", "content": "any", "code": "string", "language": "string",
        "runtime": "string", "timeout_ms": "number", "input": "any", "output": "any",
        "error": "any", "duration_ms": "number", "value": "decimal", "unit": "string",
        "confidence": "decimal", "provider_id": "string", "model": "string", "tokens_in": "number",
        "tokens_out": "number", "cost": "decimal", "tool_use_count": "number",
        "compiled_hash": "string", "prev_hash": "string", "curr_hash": "string",
        "signature": "string", "public_key": "string", "sig_alg": "string", "sig_key_id": "string",
        "metadata": "any"
    }';
    v_rows ledger.universal_registry[];
    v_key text;
begin
    select s.key
    into v_key
    from unnest(p_stated) as p (stated), jsonb_each(p.stated) as s
    where case c_wanted ->> s.key
        when 'any' then false
        when 'decimal' then jsonb_typeof(s.value) not in ('number', 'string')
        when 'strings' then jsonb_typeof(s.value) <> 'array'
            or jsonb_path_exists(s.value, 'strict $[*] ? (@.type() != "string")')
        when 'time' then ledger_private.instant(s.key, s.value) is null
        else jsonb_typeof(s.value) is distinct from c_wanted ->> s.key
    end
    limit 1;
    if v_key is not null then
        perform ledger_private.refuse_key(v_key);
    end if;
    begin
        v_rows := array(
            select jsonb_populate_record(null::ledger.universal_registry, p.stated)
            from unnest(p_stated) as p (stated)
        );
    exception
        when data_exception then
            -- Whose fault it is, is found one by one.
            for v_key in
                select distinct s.key
                from unnest(p_stated) as p (stated), jsonb_object_keys(p.stated) as s (key)
            loop
                begin
                    perform jsonb_populate_record(
                        null::ledger.universal_registry, jsonb_build_object(v_key, s.value)
                    )
                    from unnest(p_stated) as p (stated), jsonb_each(p.stated) as s
                    where s.key = v_key;
                exception
                    when data_exception then perform ledger_private.refuse_key(v_key);
                end;
            end loop;
            raise;
    end;
    -- The guard would fill in an id as well, but then nobody here knew it. A hashed span states its own.
    for i in 1 .. cardinality(v_rows) loop
        if p_stated[i] ? 'id' or p_stated[i] ? 'curr_hash' then
            continue;
        end if;
        v_rows[i].id := case
            when p_stated[i] ? 'idempotency_key' and coalesce(v_rows[i].seq, 0) = 0
                then ledger.idempotency_id(
                    coalesce(v_rows[i].tenant_id, ledger.current_tenant_id()), v_rows[i].idempotency_key
                )
        end;
        if v_rows[i].id is null then
            v_rows[i].id := ledger.uuid7();
        end if;
    end loop;
    return v_rows;
end
$$;

comment on function ledger_private.typed(jsonb[]) is
    'What spans state as rows with an id, or LL017 about the first key at fault. For ledger.append.';

create or replace function ledger_private.stored_span(
    p_stated jsonb,
    p_row ledger.universal_registry
)
returns ledger.universal_registry
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stored ledger.universal_registry;
    v_wanted jsonb := to_jsonb(p_row);
    v_found jsonb;
begin
    -- Under the reader's own policies, and his own span only: of another's nothing is compared.
    select r.*
    into v_stored
    from ledger.universal_registry as r
    where r.id = p_row.id
        and r.seq = coalesce(p_row.seq, 0)
        and r.owner_id = coalesce(p_row.owner_id, ledger.current_user_id())
        and r.tenant_id = coalesce(p_row.tenant_id, ledger.current_tenant_id());
    v_found := to_jsonb(v_stored);
    if found and not exists (
        select
        from jsonb_object_keys(p_stated) as s (key)
        where v_wanted -> s.key is distinct from v_found -> s.key
    ) then
        return v_stored;
    end if;
    -- The same words whether it is hidden, another's, or differs.
    raise exception using
        errcode = 'unique_violation',
        message = 'version ' || coalesce(p_row.seq, 0) || ' of span ' || p_row.id
            || ' is there already, and is not this one',
        detail = 'LL012' || ': this (id, seq) is taken.',
        hint = 'Read the newest version and append the next one, or state another id or idempotency_key.',
        schema = 'ledger',
        table = 'universal_registry',
        constraint = 'universal_registry_pkey';
end
$$;

comment on function ledger_private.stored_span(jsonb, ledger.universal_registry) is
    'The caller''s own row of this (id, seq) when it has all that is stated, else 23505 with LL012 in '
    'DETAIL. For ledger.append.';

create or replace function ledger.append(
    p_span jsonb,
    out id uuid,
    out seq integer,
    out accepted_at timestamptz,
    out curr_hash text,
    out is_new boolean
)
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stated jsonb := ledger_private.stated(p_span);
    v_row ledger.universal_registry := (ledger_private.typed(array[v_stated]))[1];
    v_inserted bigint;
begin
    -- No RETURNING: it needs the right to read, which who writes a private row of the system has not.
    -- Of two at once the second waits here, and then reads what the first has committed; under
    -- repeatable read and above Postgres itself answers 40001 instead: begin anew.
    insert into ledger.universal_registry
    select v_row.*
    on conflict do nothing;
    get diagnostics v_inserted = row_count;

    is_new := v_inserted = 1;
    if not is_new then
        v_row := ledger_private.stored_span(v_stated, v_row);
    end if;
    id := v_row.id;
    seq := coalesce(v_row.seq, 0);
    -- What the guard stamps.
    accepted_at := case when is_new then statement_timestamp() else v_row.accepted_at end;
    curr_hash := v_row.curr_hash;
end
$$;

comment on function ledger.append(jsonb) is
    'Appends one span: an object whose keys are columns (unknown keys and other types: LL017). The same '
    'span again is no error: when the caller''s own row of this id and seq has all that is stated, that '
    'row is returned and is_new is false; otherwise 23505 with LL012 in DETAIL (409). With '
    'idempotency_key and no id, a version 0 gets ledger.idempotency_id(tenant_id, idempotency_key). Null '
    'is not stated; accepted_at and xact are passed over. Other words for columns: when (at), digest and '
    'payload_hash "b3:…" (curr_hash), signature {algo, pubkey, sig}, metadata.tenant_id, owner_id '
    '(not of service_role, which states both itself: LL005), device_id and ts (at).';

create or replace function ledger.append_batch(p_spans jsonb)
returns table (
    place integer,
    id uuid,
    seq integer,
    accepted_at timestamptz,
    curr_hash text,
    is_new boolean,
    error jsonb
)
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_spans jsonb[];
    v_rows ledger.universal_registry[];
    v_is_mixed boolean := false; -- some are there already
    v_was_mixed boolean;
    v_new boolean[];
    v_written text[];
    v_inserted bigint;
    v_low integer := 1;
    v_size integer;
    v_state text;
    v_message text;
    v_detail text;
    v_hint text;
begin
    if jsonb_typeof(p_spans) is distinct from 'array' or pg_column_size(p_spans) > 16777216 then
        v_state := 'LL017';
    else
        v_spans := array(select s.value from jsonb_array_elements(p_spans) as s);
    end if;
    if v_state is not null or cardinality(v_spans) > 1000 then
        raise exception using
            errcode = 'LL017',
            message = 'the batch is malformed: wanted a JSON array of at most 1000 spans and 16 MiB',
            hint = 'Send {"p_spans": [{…}, …]}; what is more, in several calls.';
    end if;

    -- As many as possible in one INSERT. Where one is at fault all of them are undone and half of them
    -- tried, down to one, which is reported; then twice as many again. Always in the order sent.
    v_size := cardinality(v_spans);
    while v_low <= cardinality(v_spans) loop
        v_size := least(v_size, cardinality(v_spans) - v_low + 1);
        v_state := null;
        v_was_mixed := v_is_mixed;
        begin
            v_rows := ledger_private.typed(array(
                select ledger_private.stated(s.span)
                from unnest(v_spans[v_low:v_low + v_size - 1]) as s (span)
            ));
            if v_is_mixed and v_size > 1 then
                -- Needs the right to read. Where it is not there, one by one below.
                with written as (
                    insert into ledger.universal_registry as u
                    select r.*
                    from unnest(v_rows) as r
                    on conflict do nothing
                    returning u.id, u.seq
                )
                select coalesce(array_agg(w.id || ' ' || w.seq), '{}')
                into v_written
                from written as w;
                -- Of those that are alike the first.
                v_new := array(
                    select w.key is not null
                        and row_number() over (partition by k.key order by k.place) = 1
                    from (
                        select s.place, v_rows[s.place].id || ' ' || coalesce(v_rows[s.place].seq, 0)
                        from generate_series(1, v_size) as s (place)
                    ) as k (place, key)
                    left join unnest(v_written) as w (key) on w.key = k.key
                    order by k.place
                );
            else
                insert into ledger.universal_registry
                select r.*
                from unnest(v_rows) as r
                on conflict do nothing;
                get diagnostics v_inserted = row_count;
                if v_inserted between 1 and v_size - 1 then
                    v_is_mixed := true;
                    raise unique_violation;
                end if;
                v_new := array_fill(v_inserted > 0, array[v_size]);
            end if;
            for i in 1 .. v_size loop
                if not v_new[i] then
                    v_rows[i] := ledger_private.stored_span(
                        ledger_private.stated(v_spans[v_low + i - 1]), v_rows[i]
                    );
                end if;
            end loop;
        exception
            when others then
                get stacked diagnostics
                    v_state = returned_sqlstate,
                    v_message = message_text,
                    v_detail = pg_exception_detail,
                    v_hint = pg_exception_hint;
                -- What a span is guilty of. Anything else, such as a deadlock, a full disk or a lock
                -- not got, or an import under way, is the transaction's affair. (A cancel is not caught
                -- at all.)
                if v_state !~ '^(LL|22|23|P0001|42501)' or v_state = 'LL018' then
                    raise;
                end if;
        end;

        if v_is_mixed and not v_was_mixed then
            continue; -- the same again, asking which were written
        elsif v_state is not null and v_size > 1 then
            v_size := v_size / 2;
            continue;
        end if;
        for i in 1 .. v_size loop
            place := v_low + i - 1;
            if v_state is null then
                id := v_rows[i].id;
                seq := coalesce(v_rows[i].seq, 0);
                is_new := v_new[i];
                accepted_at := case when is_new then statement_timestamp() else v_rows[i].accepted_at end;
                curr_hash := v_rows[i].curr_hash;
                error := null;
            else
                id := null;
                seq := null;
                is_new := false;
                accepted_at := null;
                curr_hash := null;
                error := jsonb_strip_nulls(jsonb_build_object(
                    'code', v_state,
                    'message', v_message,
                    'detail', nullif(v_detail, ''),
                    'hint', nullif(v_hint, '')
                ));
            end if;
            return next;
        end loop;
        v_low := v_low + v_size;
        if v_state is null then
            v_size := v_size * 2;
        end if;
    end loop;
end
$$;

comment on function ledger.append_batch(jsonb) is
    'Appends up to 1000 spans (16 MiB), each as ledger.append does, in the order sent, and answers for each '
    'in that order: place from 1, and either what ledger.append returns or error {code, message, detail, '
    'hint}. A span that is refused does not keep the others out: for all or nothing, INSERT an array. An '
    'error that no span is guilty of (deadlock, serialization, timeout, resources, an import) ends the call, and '
    'nothing is written. Two callers who send the same ids should send them sorted, or one may get 40P01.';

revoke all on function
    ledger_private.instant(text, jsonb), ledger_private.refuse_metadata(text, text),
    ledger_private.stated(jsonb), ledger_private.refuse_key(text),
    ledger_private.typed(jsonb[]), ledger_private.stored_span(jsonb, ledger.universal_registry),
    ledger.append(jsonb), ledger.append_batch(jsonb)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function
    ledger_private.instant(text, jsonb), ledger_private.refuse_metadata(text, text),
    ledger_private.stated(jsonb), ledger_private.refuse_key(text),
    ledger_private.typed(jsonb[]), ledger_private.stored_span(jsonb, ledger.universal_registry),
    ledger.append(jsonb), ledger.append_batch(jsonb)
    to authenticated, service_role;

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
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select
        from pg_catalog.pg_class as c
        where c.oid = tg_relid
            and pg_catalog.pg_has_role(current_user, c.relowner, 'usage')
            -- Not a client in a definer function of the owner's.
            and pg_catalog.pg_has_role(
                coalesce(nullif(current_setting('role', true), 'none'), session_user), c.relowner, 'usage'
            )
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
set search_path = pg_catalog, pg_temp
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
-- when the epoch is there. Its sessions are those of a login that may be a sidecar; of the owner and of
-- superusers, who have other things to do too, those that say so. What strangers say counts for nothing.
create or replace function ledger_private.refuse_sidecar()
returns void
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
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
            select coalesce(nullif(a.application_name, ''), a.usename) || ' (pid ' || a.pid || ')'
            from pg_catalog.pg_stat_activity as a
            join pg_catalog.pg_roles as r on r.oid = a.usesysid
            where a.datname = current_database()
                and a.pid <> pg_backend_pid()
                and pg_has_role(r.oid, 'loglineos_sidecar', 'member')
                and (
                    a.application_name like 'loglineos%'
                    or not r.rolsuper and not pg_has_role(r.oid, (
                        select c.relowner
                        from pg_catalog.pg_class as c
                        where c.oid = 'ledger.universal_registry'::regclass
                    ), 'member')
                )
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
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
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

-- Not at the door: a dump brings rows to a table that has no triggers yet, and what older rules let in must
-- come back, if its owner says so.
create or replace function ledger_private.shape_faults()
returns setof text
language sql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
    select 'span ' || judged.id || ', version ' || judged.seq || ': column ' || judged.fault
    from (
        select r.id, r.seq, ledger_private.shape_fault(r) as fault
        from ledger.universal_registry as r
        offset 0
    ) as judged
    where judged.fault is not null
$$;

comment on function ledger_private.shape_faults() is
    'Which rows break the sizes and formats of today, one line a row. Reads it all.';

create or replace function ledger.import_end(p_keep_malformed boolean default false)
returns jsonb
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_faults text[];
    v_malformed bigint := 0;
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
            hint = 'The door stays open. Load what is missing, or wait for a time that is still to come (this '
                'server''s clock may be behind), and call it again; or start with a fresh '
                'database: rows that are in can not be removed.';
    end if;

    if p_keep_malformed then
        v_malformed := (select count(*) from ledger_private.shape_faults());
    else
        v_faults := array(select f from ledger_private.shape_faults() as f limit 20);
    end if;
    if cardinality(v_faults) > 0 then
        raise exception using
            errcode = 'LL018',
            message = 'there are malformed rows: ' || v_faults[1],
            detail = array_to_string(v_faults, e'\n'),
            hint = 'The door stays open. If older rules have let them in, keep them: '
                'select ledger.import_end(true). Else start with a fresh database.';
    end if;

    v_epoch := (
        select jsonb_build_object(
            'rows', count(*),
            'malformed', v_malformed,
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
    -- In a subtransaction of its own: its writer (xmin) is after that of every row which is in already, and before
    -- that of every later one, whatever the clock says (sidecar/ledger/epoch.go).
    begin
        insert into ledger.universal_registry (
            id, seq, entity_type, who, did, this, at, accepted_at, xact,
            owner_id, tenant_id, visibility, is_deleted, metadata
        )
        values (
            ledger.uuid7(), 0, 'epoch', 'system:import', 'imported', 'ledger', now(), statement_timestamp(),
            pg_catalog.pg_current_xact_id(), 'system', 'system', 'private', false, v_epoch
        );
    exception when others then
        raise;
    end;

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
    perform ledger_private.mend_owner_policies();
    perform ledger_private.mend_publication();
    perform ledger_private.lock_extension();
    return v_epoch;
end
$$;

comment on function ledger.import_end(boolean) is
    'Closes the import door: proves the chains of all versions and the shape of all rows, writes an epoch '
    'span and returns its metadata. Refuses with the first faults, and the door stays open; with true it '
    'keeps malformed rows and counts them. For the owner.';

-- DROP EXTENSION drops what belongs to the extension, past every guard and without a word. This function
-- belongs to nobody and returns rows of the ledger: so Postgres refuses, and with CASCADE it names it.
create or replace function ledger_private.lock_extension()
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
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
    set search_path = pg_catalog, pg_temp
    return null::ledger.universal_registry;
    comment on function ledger_private.drop_extension_destroys_the_ledger() is
        'Stands between DROP EXTENSION and the ledger. To destroy the ledger, drop this function first.';
    revoke all on function ledger_private.drop_extension_destroys_the_ledger() from public;
    if exists (
        select
        from pg_catalog.pg_depend
        where classid = 'pg_catalog.pg_proc'::regclass
            and objid = to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()')
            and deptype = 'e'
    ) then
        alter extension loglineos drop function ledger_private.drop_extension_destroys_the_ledger();
    end if;
end
$$;

comment on function ledger_private.lock_extension() is
    'In the extension form: makes what DROP EXTENSION stumbles over, where it is missing.';

-- For the owner alone; of the rest, what the sidecar asks before it starts.
revoke all on function ledger.import_begin(), ledger.import_end(boolean)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
revoke all on function
    ledger_private.refuse_while_importing(), ledger_private.is_importing(),
    ledger_private.refuse_sidecar(), ledger_private.chain_faults(), ledger_private.shape_faults(),
    ledger_private.lock_extension()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.is_importing() to loglineos_sidecar;

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

-- 82 guard ways: ways to the rows past their policies, and code of others on the way in. A part of
-- guard_check (85).
--
-- Found by what the catalog knows to depend on the ledger. It knows nothing of the body of a function that is
-- a text (all but `return …` and `begin atomic`), nor of copies: docs/threats.md.

create or replace function ledger_private.way_faults(p_table oid)
returns table (wall text, problem text, mend text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schemas constant oid[] := array[to_regnamespace('ledger'), to_regnamespace('ledger_private')];
    v_readers_of_all constant oid[] := array[to_regrole('service_role'), to_regrole('loglineos_sidecar')];
begin
    -- What reads with its owner's rights, and may be used by others.
    return query
    with recursive way as (
        select 'pg_catalog.pg_class'::regclass::oid as catalog, c.oid
        from pg_catalog.pg_class as c
        where c.oid = p_table or c.relnamespace = any(v_schemas) and c.relkind in ('v', 'm')
        union
        select case when r.oid is null then d.classid else 'pg_catalog.pg_class'::regclass end,
            coalesce(r.ev_class, d.objid)
        from way as w
        join pg_catalog.pg_depend as d on d.refclassid = w.catalog and d.refobjid = w.oid
        left join pg_catalog.pg_rewrite as r
            on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
        where d.classid = 'pg_catalog.pg_proc'::regclass
            or r.rulename = '_RETURN'
    )
    select distinct 'view ' || c.oid::regclass, 'shows the ledger with the rights of ' || c.relowner::regrole,
        case c.relkind
            when 'v' then format('alter view %s set (security_invoker = true)', c.oid::regclass)
            else 'revoke all on ' || c.oid::regclass || ' from ' || g.grantees
        end
    from way as w
    join pg_catalog.pg_class as c on w.catalog = 'pg_catalog.pg_class'::regclass and c.oid = w.oid
    cross join lateral (
        select string_agg(distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end, ', ')
        from (
            select c.relacl
            union all
            select t.attacl from pg_catalog.pg_attribute as t where t.attrelid = c.oid
        ) as o (acl)
        cross join lateral aclexplode(o.acl) as a
        where a.grantee <> c.relowner
            and a.grantee <> all(v_readers_of_all)
            and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    ) as g (grantees)
    where c.relkind in ('v', 'm')
        and g.grantees is not null
        and not exists (
            select
            from pg_options_to_table(c.reloptions) as o
            where o.option_name = 'security_invoker'
                and lower(o.option_value) in ('true', 'tru', 'tr', 't', 'on', 'yes', 'ye', 'y', '1')
        )
    union all
    select 'function ' || p.oid::regprocedure, 'reads the ledger with the rights of ' || p.proowner::regrole,
        format('alter routine %s security invoker', p.oid::regprocedure)
    from way as w
    join pg_catalog.pg_proc as p on w.catalog = 'pg_catalog.pg_proc'::regclass and p.oid = w.oid
    where p.prosecdef
        and p.pronamespace <> all(v_schemas)
        and exists (
            select
            from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
            where a.grantee <> p.proowner and a.grantee <> all(v_readers_of_all)
        );

    -- Tables beside the ledger. A rule of theirs acts for their owner, and a foreign key tells who may write
    -- it which ids are taken.
    return query
    select distinct 'rule ' || quote_ident(r.rulename),
        'goes from ' || r.ev_class::regclass || ' to the ledger',
        format('drop rule if exists %I on %s', r.rulename, r.ev_class::regclass)
    from pg_catalog.pg_depend as d
    join pg_catalog.pg_rewrite as r on d.classid = 'pg_catalog.pg_rewrite'::regclass and r.oid = d.objid
    join pg_catalog.pg_class as t on d.refclassid = 'pg_catalog.pg_class'::regclass and t.oid = d.refobjid
    where (t.oid = p_table or t.relnamespace = any(v_schemas) and t.relkind in ('v', 'm'))
        and r.ev_class <> p_table
        and r.rulename <> '_RETURN'
    union all
    select 'table ' || c.oid::regclass, 'is open to ' || reader.name || ' without row level security',
        case c.relkind
            when 'f' then format('revoke all on %s from %s', c.oid::regclass, reader.name)
            else format('alter table %s enable row level security', c.oid::regclass)
        end
    from pg_catalog.pg_class as c
    cross join unnest(array['public', 'anon', 'authenticated', 'loglineos_kernel']) as reader (name)
    where c.relnamespace = any(v_schemas)
        and c.relkind in ('r', 'p', 'f')
        and c.oid <> p_table
        and not c.relrowsecurity
        and has_any_column_privilege(reader.name, c.oid, 'select, insert, update')
    union all
    select 'constraint ' || quote_ident(f.conname), format('tells who may write %s which ids are taken',
            f.conrelid::regclass),
        format('alter table %s drop constraint %I', f.conrelid::regclass, f.conname)
    from pg_catalog.pg_constraint as f
    where f.contype = 'f'
        and f.confrelid = p_table
        and f.conrelid <> p_table
        and f.conparentid = 0
        and exists (
            select
            from unnest(array['anon', 'authenticated']) as writer (name)
            where has_any_column_privilege(writer.name, f.conrelid, 'insert, update')
        );

    -- Code on the way in: each row goes through the expressions of indexes, and some through those of
    -- statistics. What a superuser has loaded (C) is not looked at.
    return query
    select distinct e.wall, 'runs ' || p.oid::regprocedure, 'drop ' || e.mend
    from (
        select 'pg_catalog.pg_class'::regclass::oid, i.indexrelid, 'index ' || i.indexrelid::regclass,
            'index if exists ' || i.indexrelid::regclass
        from pg_catalog.pg_index as i
        where i.indrelid = p_table
        union all
        select 'pg_catalog.pg_statistic_ext'::regclass, s.oid, format('statistics %I', s.stxname),
            format('statistics %s.%I', s.stxnamespace::regnamespace, s.stxname)
        from pg_catalog.pg_statistic_ext as s
        where s.stxrelid = p_table
    ) as e (catalog, oid, wall, mend)
    join pg_catalog.pg_depend as d on d.classid = e.catalog and d.objid = e.oid
    cross join lateral (
        select d.refobjid as oid where d.refclassid = 'pg_catalog.pg_proc'::regclass
        union all
        select o.oprcode
        from pg_catalog.pg_operator as o
        where d.refclassid = 'pg_catalog.pg_operator'::regclass and o.oid = d.refobjid
        union all
        select m.amproc
        from pg_catalog.pg_opclass as k
        join pg_catalog.pg_amproc as m on m.amprocfamily = k.opcfamily
        where d.refclassid = 'pg_catalog.pg_opclass'::regclass and k.oid = d.refobjid
        union all
        select o.oprcode
        from pg_catalog.pg_opclass as k
        join pg_catalog.pg_amop as m on m.amopfamily = k.opcfamily
        join pg_catalog.pg_operator as o on o.oid = m.amopopr
        where d.refclassid = 'pg_catalog.pg_opclass'::regclass and k.oid = d.refobjid
        union all
        -- A domain's checks run where a value is cast to it.
        select c.refobjid
        from pg_catalog.pg_constraint as k
        join pg_catalog.pg_depend as c
            on c.classid = 'pg_catalog.pg_constraint'::regclass and c.objid = k.oid
            and c.refclassid = 'pg_catalog.pg_proc'::regclass
        where d.refclassid = 'pg_catalog.pg_type'::regclass and k.contypid = d.refobjid
    ) as f
    join pg_catalog.pg_proc as p on p.oid = f.oid
    join pg_catalog.pg_language as l on l.oid = p.prolang
    where l.lanname not in ('internal', 'c')
        and p.pronamespace <> 'pg_catalog'::regnamespace;
end
$$;

comment on function ledger_private.way_faults(oid) is
    'Which objects of others lead to the rows of the ledger past its policies, or run on the way in. For '
    'guard_check.';

revoke all on function ledger_private.way_faults(oid)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.way_faults(oid)
    to service_role, loglineos_sidecar;

-- 83 standing walls: every wall of the ledger as the catalog has it. guard_check (85) compares.
--
-- A text here is the same on Postgres 15 to 18, after a dump and under any owner, and under the settings that
-- change how Postgres writes, which are pinned: scripts/sqlbuild asks a new ledger for them (84),
-- tests/sqlrules asks on each version. Of a right it is the statement that takes it back.

create or replace function ledger_private.standing_walls()
returns table (kind text, name text, stands text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
set standard_conforming_strings = on
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
    v_table constant oid := to_regclass('ledger.universal_registry');
    v_schemas constant oid[] := array[to_regnamespace('ledger'), to_regnamespace('ledger_private')];
    v_owner constant oid := (select c.relowner from pg_catalog.pg_class as c where c.oid = v_table);
begin
    return query
    select 'column', a.attname::text, concat_ws(
        ' ',
        a.attnum,
        format_type(a.atttypid, a.atttypmod),
        case when a.attnotnull then 'not null' end,
        case when a.attcollation <> t.typcollation then 'collate ' || a.attcollation::regcollation end,
        'default ' || pg_get_expr(d.adbin, d.adrelid),
        'generated ' || nullif(a.attgenerated::text || a.attidentity::text, '')
    )
    from pg_catalog.pg_attribute as a
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = v_table
        and a.attnum > 0
        and not a.attisdropped;

    -- From Postgres 18 on, not null is a constraint too. There a valid one is told by its column.
    return query
    select 'constraint', c.conname::text, format(
        'alter table ledger.universal_registry add constraint %I %s', c.conname, pg_get_constraintdef(c.oid)
    ) || case when not (i.indisvalid and i.indisready and i.indislive) then ' -- invalid' else '' end
    from pg_catalog.pg_constraint as c
    left join pg_catalog.pg_index as i on i.indexrelid = c.conindid and i.indrelid = v_table
    where c.conrelid = v_table
        and not (c.contype = 'n' and c.convalidated);

    return query
    select 'index', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
        || case when i.indisvalid and i.indisready and i.indislive then '' else ' -- invalid' end
    from pg_catalog.pg_index as i
    where i.indrelid = v_table
        and not exists (
            select from pg_catalog.pg_constraint as c where c.conindid = i.indexrelid and c.conrelid = v_table
        );

    return query
    select 'trigger', t.tgname::text, format(
        '%s; alter table %s enable %strigger %I',
        replace(pg_get_triggerdef(t.oid), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER'),
        t.tgrelid::regclass,
        case t.tgenabled when 'A' then 'always ' when 'R' then 'replica ' else '' end,
        t.tgname
    ) || case t.tgenabled when 'D' then ' -- disabled' else '' end
    from pg_catalog.pg_trigger as t
    join pg_catalog.pg_class as c on c.oid = t.tgrelid
    where (c.oid = v_table or c.relnamespace = any(v_schemas) and c.relkind = 'v')
        and not t.tgisinternal;

    return query
    select 'policy', p.polname::text, format(
        'create policy %I on ledger.universal_registry as %s for %s to %s',
        p.polname,
        case when p.polpermissive then 'permissive' else 'restrictive' end,
        case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
            when 'd' then 'delete' else 'all' end,
        (
            select string_agg(case r.oid
                when 0 then 'public'
                when v_owner then '%owner%'
                else r.oid::regrole::text
            end, ', ' order by r.oid::regrole::text)
            from unnest(p.polroles) as r (oid)
        )
    ) || coalesce(' using (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
        || coalesce(' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
    from pg_catalog.pg_policy as p
    where p.polrelid = v_table;

    -- Postgres 16 writes fewer prefixes than 15 does, and names those of a set of columns.
    return query
    select 'view', c.oid::regclass::text, concat_ws(
        ' ',
        c.relkind,
        array_to_string(array(select o from unnest(c.reloptions) as o order by o), ' '),
        encode(sha256(convert_to(
            regexp_replace(regexp_replace(pg_get_viewdef(c.oid), e'\\mr[.]', '', 'g'), '[[:space:]]+', ' ', 'g'),
            'UTF8'
        )), 'hex')
    )
    from pg_catalog.pg_class as c
    where c.relnamespace = any(v_schemas)
        and c.relkind in ('v', 'm');

    -- A body in the form of the SQL standard has no text of its own.
    return query
    select 'function', p.oid::regprocedure::text, concat_ws(
        ' ',
        '(' || pg_get_function_arguments(p.oid) || ') returns',
        coalesce(pg_get_function_result(p.oid), 'nothing'),
        l.lanname, p.prokind, p.provolatile, p.proparallel,
        case when p.prosecdef then 'definer' else 'invoker' end,
        case when p.proisstrict then 'strict' end,
        case when p.proleakproof then 'leakproof' end,
        array_to_string(p.proconfig, ' '),
        regexp_replace(pg_get_function_sqlbody(p.oid), '[[:space:]]+', ' ', 'g')
    )
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_language as l on l.oid = p.prolang
    where p.pronamespace = any(v_schemas)
        and p.oid is distinct from to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()');

    return query
    select 'publication', p.pubname::text, format(
        'create publication loglineos for %s with (publish = %L%s)',
        case when p.puballtables then 'all tables' else concat_ws(', ', (
            select string_agg(
                format('table %s', r.prrelid::regclass)
                || coalesce((
                    select ' (' || string_agg(a.attname, ', ' order by a.attnum) || ')'
                    from pg_catalog.pg_attribute as a
                    where a.attrelid = r.prrelid and a.attnum = any(r.prattrs::int2[])
                ), '')
                || coalesce(' where (' || pg_get_expr(r.prqual, r.prrelid) || ')', ''),
                ', ' order by r.prrelid::regclass::text
            )
            from pg_catalog.pg_publication_rel as r
            where r.prpubid = p.oid
        ), (
            select string_agg('tables in schema ' || n.pnnspid::regnamespace, ', ')
            from pg_catalog.pg_publication_namespace as n
            where n.pnpubid = p.oid
        )) end,
        concat_ws(', ', case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end,
            case when p.pubdelete then 'delete' end, case when p.pubtruncate then 'truncate' end),
        case when p.pubviaroot then ', publish_via_partition_root = true' else '' end
    )
    from pg_catalog.pg_publication as p
    where p.pubname = 'loglineos';

    -- What anybody but the owner may do, as far as it was granted.
    return query
    select 'right', format('%s on %s to %s%s', lower(a.privilege_type), o.object || ' ' || o.name, g.name,
            case when a.is_grantable then ' with grant option' else '' end),
        format('revoke %s on %s from %s', concat_ws(' ', lower(a.privilege_type), o.part),
            concat_ws(' ', nullif(o.object, 'column'), o.whole), g.name)
    from (
        select 'table', c.oid::regclass::text, null, c.oid::regclass::text, c.relowner,
            coalesce(c.relacl, acldefault('r', c.relowner))
        from pg_catalog.pg_class as c
        where c.oid = v_table or c.relnamespace = any(v_schemas) and c.relkind in ('v', 'm')
        union all
        select 'column', format('%I of %s', t.attname, c.oid::regclass), format('(%I)', t.attname),
            c.oid::regclass::text, c.relowner, t.attacl
        from pg_catalog.pg_class as c
        join pg_catalog.pg_attribute as t on t.attrelid = c.oid and t.attacl is not null
        where c.oid = v_table or c.relnamespace = any(v_schemas) and c.relkind in ('v', 'm')
        union all
        select 'function', p.oid::regprocedure::text, null, p.oid::regprocedure::text, p.proowner,
            coalesce(p.proacl, acldefault('f', p.proowner))
        from pg_catalog.pg_proc as p
        where p.pronamespace = any(v_schemas)
        union all
        select 'schema', n.oid::regnamespace::text, null, n.oid::regnamespace::text, n.nspowner,
            coalesce(n.nspacl, acldefault('n', n.nspowner))
        from pg_catalog.pg_namespace as n
        where n.oid = any(v_schemas || to_regnamespace('engine')::oid)
    ) as o (object, name, part, whole, owner, acl)
    cross join lateral aclexplode(o.acl) as a
    cross join lateral (
        select case a.grantee when 0 then 'public' else a.grantee::regrole::text end as name
    ) as g
    where a.grantee <> o.owner;
end
$$;

comment on function ledger_private.standing_walls() is
    'Every wall of the ledger as the catalog has it, one row each, in a text that is the same in all versions '
    'of Postgres. For guard_check.';

revoke all on function ledger_private.standing_walls()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.standing_walls()
    to service_role, loglineos_sidecar;

-- 84 walls: what guard_check expects to stand, as a new ledger says it.
-- Generated from the other files by scripts/sqlbuild. Do not edit.
-- Sources: af0d04047f93be074f007bcbe53f0dca4bc965f65867c0dc7687f044864b13be

create or replace function ledger_private.built_walls()
returns table (kind text, name text, stands text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    values
        ('column', 'accepted_at', '13 timestamp with time zone not null default NULLIF(NULL::timestamp with time zone, NULL::timestamp with time zone)'),
        ('column', 'app_id', '30 text'),
        ('column', 'at', '7 timestamp with time zone not null default NULLIF(NULL::timestamp with time zone, NULL::timestamp with time zone)'),
        ('column', 'attempt', '37 integer'),
        ('column', 'code', '46 text'),
        ('column', 'compiled_hash', '63 text'),
        ('column', 'confidence', '56 numeric'),
        ('column', 'confirmed_by', '8 text'),
        ('column', 'content', '45 jsonb'),
        ('column', 'cost', '61 numeric'),
        ('column', 'curr_hash', '65 text'),
        ('column', 'description', '39 text'),
        ('column', 'device_id', '31 text'),
        ('column', 'did', '5 text'),
        ('column', 'duration_ms', '53 integer'),
        ('column', 'effective_at', '15 timestamp with time zone'),
        ('column', 'entity_type', '3 text not null'),
        ('column', 'error', '52 jsonb'),
        ('column', 'expires_at', '16 timestamp with time zone'),
        ('column', 'id', '1 uuid not null default NULLIF(NULL::uuid, NULL::uuid)'),
        ('column', 'idempotency_key', '23 text'),
        ('column', 'if_doubt', '10 text'),
        ('column', 'if_not', '11 text'),
        ('column', 'if_ok', '9 text'),
        ('column', 'input', '50 jsonb'),
        ('column', 'is_deleted', '33 boolean not null default NULLIF(NULL::boolean, NULL::boolean)'),
        ('column', 'kind', '40 text'),
        ('column', 'language', '47 text'),
        ('column', 'layer', '43 text'),
        ('column', 'links', '20 jsonb'),
        ('column', 'metadata', '70 jsonb'),
        ('column', 'model', '58 text'),
        ('column', 'name', '38 text'),
        ('column', 'output', '51 jsonb'),
        ('column', 'owner_id', '25 text not null default NULLIF(NULL::text, NULL::text)'),
        ('column', 'parent_id', '18 uuid'),
        ('column', 'policy_id', '24 uuid'),
        ('column', 'prev_hash', '64 text'),
        ('column', 'priority', '35 integer'),
        ('column', 'provider_id', '57 uuid'),
        ('column', 'public_key', '67 text'),
        ('column', 'reason', '34 text'),
        ('column', 'related_to', '19 uuid[]'),
        ('column', 'runtime', '48 text'),
        ('column', 'scheduled_at', '14 timestamp with time zone'),
        ('column', 'schema_id', '44 text'),
        ('column', 'scopes', '29 text[]'),
        ('column', 'sensitivity', '28 text'),
        ('column', 'seq', '2 integer not null default NULLIF(NULL::integer, NULL::integer)'),
        ('column', 'session_id', '22 text'),
        ('column', 'severity', '36 text'),
        ('column', 'sig_alg', '68 text'),
        ('column', 'sig_key_id', '69 text'),
        ('column', 'signature', '66 text'),
        ('column', 'status', '32 text'),
        ('column', 'tags', '42 text[]'),
        ('column', 'tenant_id', '26 text not null default NULLIF(NULL::text, NULL::text)'),
        ('column', 'this', '6 text'),
        ('column', 'timeout_ms', '49 integer'),
        ('column', 'tokens_in', '59 integer'),
        ('column', 'tokens_out', '60 integer'),
        ('column', 'tool_use_count', '62 integer'),
        ('column', 'trace_id', '21 text'),
        ('column', 'ttl_at', '17 timestamp with time zone'),
        ('column', 'unit', '55 text'),
        ('column', 'value', '54 numeric'),
        ('column', 'version', '41 text'),
        ('column', 'visibility', '27 text not null default NULLIF(NULL::text, NULL::text)'),
        ('column', 'who', '4 text not null default NULLIF(NULL::text, NULL::text)'),
        ('column', 'xact', '12 xid8 not null default NULLIF(NULL::xid8, NULL::xid8)'),
        ('constraint', 'universal_registry_pkey', 'alter table ledger.universal_registry add constraint universal_registry_pkey PRIMARY KEY (id, seq)'),
        ('constraint', 'universal_registry_seq_check', 'alter table ledger.universal_registry add constraint universal_registry_seq_check CHECK ((seq >= 0))'),
        ('function', 'ledger.admit_span()', '() returns trigger plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.append(jsonb)', '(p_span jsonb, OUT id uuid, OUT seq integer, OUT accepted_at timestamp with time zone, OUT curr_hash text, OUT is_new boolean) returns record plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.append_batch(jsonb)', '(p_spans jsonb) returns TABLE(place integer, id uuid, seq integer, accepted_at timestamp with time zone, curr_hash text, is_new boolean, error jsonb) plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.as_of(timestamp with time zone,uuid,text,text,integer,timestamp with time zone,uuid)', '(p_at timestamp with time zone, p_id uuid DEFAULT NULL::uuid, p_entity_type text DEFAULT NULL::text, p_tenant_id text DEFAULT NULL::text, p_limit integer DEFAULT 100, p_before timestamp with time zone DEFAULT NULL::timestamp with time zone, p_before_id uuid DEFAULT NULL::uuid) returns SETOF ledger.history plpgsql f s u invoker search_path=pg_catalog, pg_temp plan_cache_mode=force_custom_plan jit=off'),
        ('function', 'ledger.current_tenant_id()', '() returns text plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.current_user_id()', '() returns text plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.follow_version()', '() returns trigger plpgsql f v u definer search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.guard_check()', '() returns TABLE(wall text, problem text, mend text) plpgsql f s u invoker search_path=pg_catalog, pg_temp quote_all_identifiers=off standard_conforming_strings=on DateStyle=ISO, MDY IntervalStyle=postgres TimeZone=UTC bytea_output=hex extra_float_digits=1'),
        ('function', 'ledger.idempotency_id(text,text)', '(p_tenant_id text, p_key text) returns uuid plpgsql f i s invoker strict search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.import_begin()', '() returns void plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.import_end(boolean)', '(p_keep_malformed boolean DEFAULT false) returns jsonb plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.is_callable(uuid,text,text)', '(p_function_id uuid, p_owner_id text, p_tenant_id text) returns boolean plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.is_governor()', '() returns boolean plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.manifest_in_force()', '() returns TABLE(seq integer, accepted_at timestamp with time zone, newest_seq integer) sql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.may_follow(text,text,text,text,boolean)', '(p_entity_type text, p_tenant_id text, p_before text, p_after text, p_is_engine boolean) returns boolean plpgsql f i s invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.refuse_change()', '() returns trigger plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.result(uuid)', '(p_request_id uuid) returns TABLE(request_id uuid, status text, is_done boolean, function_id uuid, function_seq integer, attempt integer, execution_id uuid, output jsonb, error jsonb, reason text, duration_ms integer, requested_at timestamp with time zone, done_at timestamp with time zone) plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger.uuid7()', '() returns uuid plpgsql f v s invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.built_walls()', '() returns TABLE(kind text, name text, stands text) plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.chain_faults()', '() returns SETOF text sql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.claims()', '() returns jsonb plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.fingerprints()', '() returns TABLE(name text, digest text) plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.instant(text,jsonb)', '(p_key text, p_value jsonb) returns timestamp with time zone plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.is_importing()', '() returns boolean sql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.is_odd_json(jsonb)', '(p_json jsonb) returns boolean plpgsql f i s invoker strict search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.is_superseded(uuid,integer,timestamp with time zone)', '(p_id uuid, p_seq integer, p_at timestamp with time zone DEFAULT ''infinity''::timestamp with time zone) returns boolean plpgsql f s u definer search_path=pg_catalog, pg_temp plan_cache_mode=force_generic_plan'),
        ('function', 'ledger_private.lock_extension()', '() returns void plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.make_engine()', '() returns void plpgsql f v u definer search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.manifest_in_force()', '() returns jsonb sql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.manifest_seq_in_force()', '() returns integer plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.manifest_standing()', '() returns TABLE(seq integer, accepted_at timestamp with time zone, newest_seq integer) sql f s u definer search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.may_call(uuid,text,text)', '(p_function_id uuid, p_owner_id text, p_tenant_id text) returns boolean plpgsql f s u definer search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.may_publish(text,text,text)', '(p_owner_id text, p_tenant_id text, p_entity_type text) returns boolean plpgsql f s u definer search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.mend_owner_policies()', '() returns void plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.mend_publication()', '() returns void plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.refuse_key(text)', '(p_key text) returns void plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.refuse_metadata(text,text)', '(p_column text, p_value text) returns void plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.refuse_shape(text)', '(p_fault text) returns void plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.refuse_sidecar()', '() returns void plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.refuse_span(text,ledger.universal_registry)', '(p_code text, p_span ledger.universal_registry) returns void plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.refuse_while_importing()', '() returns trigger plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.role_faults(oid)', '(p_owner oid) returns TABLE(wall text, problem text, mend text) plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.sha1(bytea)', '(p_message bytea) returns bytea plpgsql f i s invoker strict search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.shape_fault(ledger.universal_registry)', '(p_span ledger.universal_registry) returns text plpgsql f s s invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.shape_faults()', '() returns SETOF text sql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.standing_walls()', '() returns TABLE(kind text, name text, stands text) plpgsql f s u invoker search_path=pg_catalog, pg_temp quote_all_identifiers=off standard_conforming_strings=on DateStyle=ISO, MDY IntervalStyle=postgres TimeZone=UTC bytea_output=hex extra_float_digits=1'),
        ('function', 'ledger_private.stated(jsonb)', '(p_span jsonb) returns jsonb plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.stored_span(jsonb,ledger.universal_registry)', '(p_stated jsonb, p_row ledger.universal_registry) returns ledger.universal_registry plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.typed(jsonb[])', '(p_stated jsonb[]) returns ledger.universal_registry[] plpgsql f v u invoker search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.uuid5(uuid,text)', '(p_namespace uuid, p_name text) returns uuid plpgsql f i s invoker strict search_path=pg_catalog, pg_temp'),
        ('function', 'ledger_private.version()', '() returns text sql f i s invoker search_path=pg_catalog, pg_temp RETURN ''0.2.0''::text'),
        ('function', 'ledger_private.way_faults(oid)', '(p_table oid) returns TABLE(wall text, problem text, mend text) plpgsql f s u invoker search_path=pg_catalog, pg_temp'),
        ('index', 'ledger.universal_registry_at_idx', 'CREATE INDEX universal_registry_at_idx ON ledger.universal_registry USING btree (at DESC)'),
        ('index', 'ledger.universal_registry_due_idx', 'CREATE INDEX universal_registry_due_idx ON ledger.universal_registry USING btree (scheduled_at, id) WHERE ((entity_type = ''request''::text) AND (status = ANY (ARRAY[''scheduled''::text, ''retry''::text, ''blocked''::text])) AND (scheduled_at > accepted_at))'),
        ('index', 'ledger.universal_registry_open_idx', 'CREATE INDEX universal_registry_open_idx ON ledger.universal_registry USING btree (tenant_id, xact, id) WHERE ((entity_type = ''request''::text) AND (status = ANY (ARRAY[''scheduled''::text, ''running''::text, ''retry''::text, ''blocked''::text, ''cancel_requested''::text])) AND ((scheduled_at IS NULL) OR (scheduled_at <= accepted_at) OR (status = ANY (ARRAY[''running''::text, ''cancel_requested''::text]))))'),
        ('index', 'ledger.universal_registry_owner_at_idx', 'CREATE INDEX universal_registry_owner_at_idx ON ledger.universal_registry USING btree (owner_id, at DESC)'),
        ('index', 'ledger.universal_registry_parent_owner_idx', 'CREATE INDEX universal_registry_parent_owner_idx ON ledger.universal_registry USING btree (parent_id, owner_id, entity_type, accepted_at DESC) WHERE (parent_id IS NOT NULL)'),
        ('index', 'ledger.universal_registry_policy_idx', 'CREATE INDEX universal_registry_policy_idx ON ledger.universal_registry USING btree (id, seq) WHERE (entity_type = ''policy''::text)'),
        ('index', 'ledger.universal_registry_public_at_idx', 'CREATE INDEX universal_registry_public_at_idx ON ledger.universal_registry USING btree (at DESC) WHERE (visibility = ''public''::text)'),
        ('index', 'ledger.universal_registry_schedule_idx', 'CREATE INDEX universal_registry_schedule_idx ON ledger.universal_registry USING btree (id, seq) WHERE ((entity_type = ''function''::text) AND (metadata ? ''schedule''::text))'),
        ('index', 'ledger.universal_registry_shared_at_idx', 'CREATE INDEX universal_registry_shared_at_idx ON ledger.universal_registry USING btree (tenant_id, at DESC) WHERE (visibility = ''tenant''::text)'),
        ('index', 'ledger.universal_registry_tenant_at_idx', 'CREATE INDEX universal_registry_tenant_at_idx ON ledger.universal_registry USING btree (tenant_id, at DESC)'),
        ('index', 'ledger.universal_registry_tenant_type_at_idx', 'CREATE INDEX universal_registry_tenant_type_at_idx ON ledger.universal_registry USING btree (tenant_id, entity_type, at DESC)'),
        ('index', 'ledger.universal_registry_trace_idx', 'CREATE INDEX universal_registry_trace_idx ON ledger.universal_registry USING btree (trace_id) WHERE (trace_id IS NOT NULL)'),
        ('index', 'ledger.universal_registry_ttl_idx', 'CREATE INDEX universal_registry_ttl_idx ON ledger.universal_registry USING btree (tenant_id, ttl_at) WHERE (ttl_at IS NOT NULL)'),
        ('index', 'ledger.universal_registry_xact_idx', 'CREATE INDEX universal_registry_xact_idx ON ledger.universal_registry USING btree (xact)'),
        ('policy', 'universal_registry_insert_authenticated', 'create policy universal_registry_insert_authenticated on ledger.universal_registry as permissive for insert to authenticated with check ((((owner_id, tenant_id) = ( SELECT (token.claims ->> ''sub''::text),
    COALESCE((token.claims #>> ''{app_metadata,tenant_id}''::text[]), (token.claims ->> ''tenant_id''::text)) AS "coalesce"
   FROM ( SELECT (NULLIF(setting.claims, ''''::text))::jsonb AS claims
           FROM ( SELECT current_setting(''request.jwt.claims''::text, true) AS claims) setting
         OFFSET 0) token)) OR ((owner_id = ''system''::text) AND (tenant_id = ''system''::text) AND ledger.is_governor())))'),
        ('policy', 'universal_registry_insert_owner', 'create policy universal_registry_insert_owner on ledger.universal_registry as permissive for insert to %owner% with check (true)'),
        ('policy', 'universal_registry_insert_service', 'create policy universal_registry_insert_service on ledger.universal_registry as permissive for insert to service_role with check (true)'),
        ('policy', 'universal_registry_insert_sidecar', 'create policy universal_registry_insert_sidecar on ledger.universal_registry as permissive for insert to loglineos_sidecar with check (true)'),
        ('policy', 'universal_registry_select_authenticated', 'create policy universal_registry_select_authenticated on ledger.universal_registry as permissive for select to authenticated using (((( SELECT ledger.current_user_id() AS current_user_id) IS NOT NULL) AND
CASE visibility
    WHEN ''tenant''::text THEN (tenant_id = ( SELECT ledger.current_tenant_id() AS current_tenant_id))
    WHEN ''public''::text THEN true
    ELSE ((owner_id = ( SELECT ledger.current_user_id() AS current_user_id)) AND (tenant_id = ( SELECT ledger.current_tenant_id() AS current_tenant_id)))
END))'),
        ('policy', 'universal_registry_select_kernel', 'create policy universal_registry_select_kernel on ledger.universal_registry as permissive for select to loglineos_kernel using (((( SELECT ledger.current_user_id() AS current_user_id) IS NOT NULL) AND
CASE visibility
    WHEN ''tenant''::text THEN (tenant_id = ( SELECT ledger.current_tenant_id() AS current_tenant_id))
    WHEN ''public''::text THEN true
    ELSE ((owner_id = ( SELECT ledger.current_user_id() AS current_user_id)) AND (tenant_id = ( SELECT ledger.current_tenant_id() AS current_tenant_id)))
END))'),
        ('policy', 'universal_registry_select_owner', 'create policy universal_registry_select_owner on ledger.universal_registry as permissive for select to %owner% using (true)'),
        ('policy', 'universal_registry_select_service', 'create policy universal_registry_select_service on ledger.universal_registry as permissive for select to service_role using (true)'),
        ('policy', 'universal_registry_select_sidecar', 'create policy universal_registry_select_sidecar on ledger.universal_registry as permissive for select to loglineos_sidecar using (true)'),
        ('publication', 'loglineos', 'create publication loglineos for table ledger.universal_registry (id, seq, entity_type, at, xact, accepted_at, scheduled_at, parent_id, trace_id, owner_id, tenant_id, visibility, status, is_deleted, prev_hash, curr_hash) with (publish = ''insert'')'),
        ('right', 'create on schema engine to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.append(jsonb) to authenticated', ''),
        ('right', 'execute on function ledger.append(jsonb) to service_role', ''),
        ('right', 'execute on function ledger.append_batch(jsonb) to authenticated', ''),
        ('right', 'execute on function ledger.append_batch(jsonb) to service_role', ''),
        ('right', 'execute on function ledger.as_of(timestamp with time zone,uuid,text,text,integer,timestamp with time zone,uuid) to authenticated', ''),
        ('right', 'execute on function ledger.as_of(timestamp with time zone,uuid,text,text,integer,timestamp with time zone,uuid) to loglineos_kernel', ''),
        ('right', 'execute on function ledger.as_of(timestamp with time zone,uuid,text,text,integer,timestamp with time zone,uuid) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.as_of(timestamp with time zone,uuid,text,text,integer,timestamp with time zone,uuid) to service_role', ''),
        ('right', 'execute on function ledger.current_tenant_id() to anon', ''),
        ('right', 'execute on function ledger.current_tenant_id() to authenticated', ''),
        ('right', 'execute on function ledger.current_tenant_id() to loglineos_kernel', ''),
        ('right', 'execute on function ledger.current_tenant_id() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.current_tenant_id() to service_role', ''),
        ('right', 'execute on function ledger.current_user_id() to anon', ''),
        ('right', 'execute on function ledger.current_user_id() to authenticated', ''),
        ('right', 'execute on function ledger.current_user_id() to loglineos_kernel', ''),
        ('right', 'execute on function ledger.current_user_id() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.current_user_id() to service_role', ''),
        ('right', 'execute on function ledger.guard_check() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.guard_check() to service_role', ''),
        ('right', 'execute on function ledger.idempotency_id(text,text) to authenticated', ''),
        ('right', 'execute on function ledger.idempotency_id(text,text) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.idempotency_id(text,text) to service_role', ''),
        ('right', 'execute on function ledger.is_governor() to anon', ''),
        ('right', 'execute on function ledger.is_governor() to authenticated', ''),
        ('right', 'execute on function ledger.is_governor() to loglineos_kernel', ''),
        ('right', 'execute on function ledger.is_governor() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.is_governor() to service_role', ''),
        ('right', 'execute on function ledger.manifest_in_force() to authenticated', ''),
        ('right', 'execute on function ledger.manifest_in_force() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.manifest_in_force() to service_role', ''),
        ('right', 'execute on function ledger.may_follow(text,text,text,text,boolean) to authenticated', ''),
        ('right', 'execute on function ledger.may_follow(text,text,text,text,boolean) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.may_follow(text,text,text,text,boolean) to service_role', ''),
        ('right', 'execute on function ledger.result(uuid) to authenticated', ''),
        ('right', 'execute on function ledger.result(uuid) to loglineos_kernel', ''),
        ('right', 'execute on function ledger.result(uuid) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.result(uuid) to service_role', ''),
        ('right', 'execute on function ledger.uuid7() to authenticated', ''),
        ('right', 'execute on function ledger.uuid7() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger.uuid7() to service_role', ''),
        ('right', 'execute on function ledger_private.built_walls() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.built_walls() to service_role', ''),
        ('right', 'execute on function ledger_private.claims() to anon', ''),
        ('right', 'execute on function ledger_private.claims() to authenticated', ''),
        ('right', 'execute on function ledger_private.claims() to loglineos_kernel', ''),
        ('right', 'execute on function ledger_private.claims() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.claims() to service_role', ''),
        ('right', 'execute on function ledger_private.fingerprints() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.fingerprints() to service_role', ''),
        ('right', 'execute on function ledger_private.instant(text,jsonb) to authenticated', ''),
        ('right', 'execute on function ledger_private.instant(text,jsonb) to service_role', ''),
        ('right', 'execute on function ledger_private.is_importing() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.is_odd_json(jsonb) to authenticated', ''),
        ('right', 'execute on function ledger_private.is_odd_json(jsonb) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.is_odd_json(jsonb) to service_role', ''),
        ('right', 'execute on function ledger_private.is_superseded(uuid,integer,timestamp with time zone) to anon', ''),
        ('right', 'execute on function ledger_private.is_superseded(uuid,integer,timestamp with time zone) to authenticated', ''),
        ('right', 'execute on function ledger_private.is_superseded(uuid,integer,timestamp with time zone) to loglineos_kernel', ''),
        ('right', 'execute on function ledger_private.is_superseded(uuid,integer,timestamp with time zone) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.is_superseded(uuid,integer,timestamp with time zone) to service_role', ''),
        ('right', 'execute on function ledger_private.make_engine() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.manifest_standing() to authenticated', ''),
        ('right', 'execute on function ledger_private.manifest_standing() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.manifest_standing() to service_role', ''),
        ('right', 'execute on function ledger_private.may_call(uuid,text,text) to authenticated', ''),
        ('right', 'execute on function ledger_private.may_call(uuid,text,text) to service_role', ''),
        ('right', 'execute on function ledger_private.may_publish(text,text,text) to authenticated', ''),
        ('right', 'execute on function ledger_private.may_publish(text,text,text) to service_role', ''),
        ('right', 'execute on function ledger_private.refuse_key(text) to authenticated', ''),
        ('right', 'execute on function ledger_private.refuse_key(text) to service_role', ''),
        ('right', 'execute on function ledger_private.refuse_metadata(text,text) to authenticated', ''),
        ('right', 'execute on function ledger_private.refuse_metadata(text,text) to service_role', ''),
        ('right', 'execute on function ledger_private.refuse_shape(text) to authenticated', ''),
        ('right', 'execute on function ledger_private.refuse_shape(text) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.refuse_shape(text) to service_role', ''),
        ('right', 'execute on function ledger_private.refuse_span(text,ledger.universal_registry) to authenticated', ''),
        ('right', 'execute on function ledger_private.refuse_span(text,ledger.universal_registry) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.refuse_span(text,ledger.universal_registry) to service_role', ''),
        ('right', 'execute on function ledger_private.role_faults(oid) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.role_faults(oid) to service_role', ''),
        ('right', 'execute on function ledger_private.sha1(bytea) to authenticated', ''),
        ('right', 'execute on function ledger_private.sha1(bytea) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.sha1(bytea) to service_role', ''),
        ('right', 'execute on function ledger_private.shape_fault(ledger.universal_registry) to authenticated', ''),
        ('right', 'execute on function ledger_private.shape_fault(ledger.universal_registry) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.shape_fault(ledger.universal_registry) to service_role', ''),
        ('right', 'execute on function ledger_private.standing_walls() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.standing_walls() to service_role', ''),
        ('right', 'execute on function ledger_private.stated(jsonb) to authenticated', ''),
        ('right', 'execute on function ledger_private.stated(jsonb) to service_role', ''),
        ('right', 'execute on function ledger_private.stored_span(jsonb,ledger.universal_registry) to authenticated', ''),
        ('right', 'execute on function ledger_private.stored_span(jsonb,ledger.universal_registry) to service_role', ''),
        ('right', 'execute on function ledger_private.typed(jsonb[]) to authenticated', ''),
        ('right', 'execute on function ledger_private.typed(jsonb[]) to service_role', ''),
        ('right', 'execute on function ledger_private.uuid5(uuid,text) to authenticated', ''),
        ('right', 'execute on function ledger_private.uuid5(uuid,text) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.uuid5(uuid,text) to service_role', ''),
        ('right', 'execute on function ledger_private.version() to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.way_faults(oid) to loglineos_sidecar', ''),
        ('right', 'execute on function ledger_private.way_faults(oid) to service_role', ''),
        ('right', 'insert on table ledger.universal_registry to authenticated', ''),
        ('right', 'insert on table ledger.universal_registry to loglineos_sidecar', ''),
        ('right', 'insert on table ledger.universal_registry to service_role', ''),
        ('right', 'select on table ledger.function_state to authenticated', ''),
        ('right', 'select on table ledger.function_state to loglineos_kernel', ''),
        ('right', 'select on table ledger.function_state to loglineos_sidecar', ''),
        ('right', 'select on table ledger.function_state to service_role', ''),
        ('right', 'select on table ledger.history to anon', ''),
        ('right', 'select on table ledger.history to authenticated', ''),
        ('right', 'select on table ledger.history to loglineos_kernel', ''),
        ('right', 'select on table ledger.history to loglineos_sidecar', ''),
        ('right', 'select on table ledger.history to service_role', ''),
        ('right', 'select on table ledger.universal_registry to anon', ''),
        ('right', 'select on table ledger.universal_registry to authenticated', ''),
        ('right', 'select on table ledger.universal_registry to loglineos_kernel', ''),
        ('right', 'select on table ledger.universal_registry to loglineos_sidecar', ''),
        ('right', 'select on table ledger.universal_registry to service_role', ''),
        ('right', 'select on table ledger.visible_timeline to anon', ''),
        ('right', 'select on table ledger.visible_timeline to authenticated', ''),
        ('right', 'select on table ledger.visible_timeline to loglineos_kernel', ''),
        ('right', 'select on table ledger.visible_timeline to loglineos_sidecar', ''),
        ('right', 'select on table ledger.visible_timeline to service_role', ''),
        ('right', 'usage on schema engine to loglineos_sidecar', ''),
        ('right', 'usage on schema ledger to anon', ''),
        ('right', 'usage on schema ledger to authenticated', ''),
        ('right', 'usage on schema ledger to loglineos_kernel', ''),
        ('right', 'usage on schema ledger to loglineos_sidecar', ''),
        ('right', 'usage on schema ledger to service_role', ''),
        ('right', 'usage on schema ledger_private to anon', ''),
        ('right', 'usage on schema ledger_private to authenticated', ''),
        ('right', 'usage on schema ledger_private to loglineos_kernel', ''),
        ('right', 'usage on schema ledger_private to loglineos_sidecar', ''),
        ('right', 'usage on schema ledger_private to service_role', ''),
        ('trigger', 'universal_registry_before_change_row', 'CREATE OR REPLACE TRIGGER universal_registry_before_change_row BEFORE DELETE OR UPDATE ON ledger.universal_registry FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change(); alter table ledger.universal_registry enable always trigger universal_registry_before_change_row'),
        ('trigger', 'universal_registry_before_change_statement', 'CREATE OR REPLACE TRIGGER universal_registry_before_change_statement BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.universal_registry FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change(); alter table ledger.universal_registry enable always trigger universal_registry_before_change_statement'),
        ('trigger', 'universal_registry_before_insert_1_admit', 'CREATE OR REPLACE TRIGGER universal_registry_before_insert_1_admit BEFORE INSERT ON ledger.universal_registry FOR EACH ROW EXECUTE FUNCTION ledger.admit_span(); alter table ledger.universal_registry enable always trigger universal_registry_before_insert_1_admit'),
        ('trigger', 'universal_registry_before_insert_2_follow', 'CREATE OR REPLACE TRIGGER universal_registry_before_insert_2_follow BEFORE INSERT ON ledger.universal_registry FOR EACH ROW WHEN ((new.seq > 0)) EXECUTE FUNCTION ledger.follow_version(); alter table ledger.universal_registry enable always trigger universal_registry_before_insert_2_follow'),
        ('view', 'ledger.function_state', 'v security_invoker=true cdc0d8e072d081c6608378130f952af05a3424f4582ec2b70bcfef13084f2d64'),
        ('view', 'ledger.history', 'v security_invoker=true 5b2e2620085cb06c672730a989aa8be434414019e438e459c531939d7c5c2991'),
        ('view', 'ledger.visible_timeline', 'v security_invoker=true e24efd7c170164bc8b44037837610f0d72fe02486e44468afa8dcc79a9991d5c');
end
$$;

comment on function ledger_private.built_walls() is
    'Every wall of the ledger as it was built, in the form of standing_walls. For guard_check.';

-- 85 guard check: which walls do not stand?
--
-- The owner of the ledger, or a superuser, can take every wall down. What they do to the catalog is found
-- here: what stands (83) is compared with what was built (84), bodies by their fingerprints, which
-- scripts/sqlbuild fills in; and what must not be is looked for. Who replaces these functions too is found by
-- the sidecar alone, who writes the catalog by hand by nobody: docs/threats.md.

create or replace function ledger_private.fingerprints()
returns table (name text, digest text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    values
        ('ledger.admit_span', 'cc791ddf8d9f1ada0154f3a53178ca82ee64315989e27a196afe1caa9c21fdc6'),
        ('ledger.append', 'a143a0806043c0db5053c4c4524cd6f0446ef591941151b644bebde2a965ecb5'),
        ('ledger.append_batch', '9db0c09e35775aa9d6c878caa06e330880413fd2c7c0129adad3937758adabf5'),
        ('ledger.as_of', '672fbdf4c2b07c00db9e1005c09d80a9205dd1c1d123323f2698137159396820'),
        ('ledger.current_tenant_id', 'b7dc59a609067e0d6d21db5e768cbbd55c9574037c0ec7e7dc440dabf3ecaba6'),
        ('ledger.current_user_id', 'd2b20ddf20d60ab3c9f718790091fe16e80d3f55024c28727ca943bd24fd8f66'),
        ('ledger.follow_version', 'f451773483e08847530d3358f5e20faeadda0c9adbf9d9cc3201279b94a26479'),
        ('ledger.guard_check', 'd72da27db15e18fc7e9e625eeab2dd2805810f201f134cbad43e86b0a6623edc'),
        ('ledger.idempotency_id', 'da2733312397c86d5b79f1d5369569c9457f848d152002a41990a4ab219d7d4c'),
        ('ledger.import_begin', '6a7c6da7f060465f8842dec3c8ccdbdf019c892aa5fdba6607dfc9b9aa439bd0'),
        ('ledger.import_end', '2fc6410aa05b243ab5be160d12c1312ac675456c39fc43b35df4d3c7c734e946'),
        ('ledger.is_callable', 'afc504660585ad8d843f1e6e13197ebd258e256660da612533b004d8f0e9502a'),
        ('ledger.is_governor', '052100188c971990548496517c3bd5cef048e202da12cce2e6970679fd687971'),
        ('ledger.manifest_in_force', '7a4ebf7b41fb61f03351a05fe020c2d2365a3e4430adf0b8fb39c7c664311e40'),
        ('ledger.may_follow', 'e0ac916e493319740185affbed129ce696a2804ccb3ec7b1a8110d166a11acb0'),
        ('ledger.refuse_change', '2bf360cdc5893a49d2ec6393be03366bfe45c0741a961aa98218a546fa9b476c'),
        ('ledger.result', '7c40690af20085a63e66e7b8fe5261702375e67ff5cb7ed211d05dc99746b19c'),
        ('ledger.uuid7', '4f033ff8ae752da60a6f898e1fe60695a26729e2dfb29ff2d813169877ac3406'),
        ('ledger_private.built_walls', '512dbabf8d79bc8f112f2ac75e6944ca621ff390ca6a7cdcc8656be353f2138d'),
        ('ledger_private.chain_faults', 'a7c45e5f2491b294c21aa83aadb9e41386073c4a0e02216842126acfbd6ac1a1'),
        ('ledger_private.claims', '540e5581f618a3b82cdac477a9aebdda21cd3bfb0216b99bc0f97ade70523da2'),
        ('ledger_private.instant', '0acfc8d6b7d209742ba63befc5d43314bd10d230c49a251651f0b50ec5bf38ca'),
        ('ledger_private.is_importing', 'c0bdaf9af8bd5b22c369d2d749d55b78a2f9f2f6ad137ef5c304c192f10222ba'),
        ('ledger_private.is_odd_json', 'b06773e0680a7afda7f964db97674daf9915077560f73e1e88bfd7a69fcfd32e'),
        ('ledger_private.is_superseded', '93f394567cea42f58200d0a813ae67278a07b7597d66bad55b6aa0fc6b72ee1c'),
        ('ledger_private.lock_extension', 'bcc6c125887a30775bb1d277467a79f1790259488cbf1cee83b98331f0eb6179'),
        ('ledger_private.make_engine', 'cd5e5d9a345bd04e1689811233cfdb853ba87832cab7b94460ff611311dcdd6b'),
        ('ledger_private.manifest_in_force', '6731cc554a99be2b3b4c12eed4a0bc93722197b993da33d13eb3638c1d5e7b96'),
        ('ledger_private.manifest_seq_in_force', 'b26a9b44d697529d2f2b796eab3a12a13babdb5e665d37ded7710e9b8efa060b'),
        ('ledger_private.manifest_standing', '251176d8bddd494ac1ce76d4a294002f8ac0e44369607f4fd6ef39cd9081e86e'),
        ('ledger_private.may_call', '9512f6f785109317a2ae71e7367645cc488c19d7618a8be8cf273ed6d9c9c2a4'),
        ('ledger_private.may_publish', 'b40dda0d48badfe4aad761c76b08732d5de924e16996f9ad226426a5cbe7cd9d'),
        ('ledger_private.mend_owner_policies', '465f17c40193f1c1a2a02323e51cc3d074df38b6bac5b7aede0c31cd4295f3da'),
        ('ledger_private.mend_publication', 'dba6586abfee58bb95a5c5daabab850d7d56d92007da3d46e0b0a3fcb9fec4c5'),
        ('ledger_private.refuse_key', '6e43b30a4d323097ac602ade2fcda1111d984ef8c076365f8053207fc59ba188'),
        ('ledger_private.refuse_metadata', 'f5d1a28cbc0bb5aff806f05e0f9bba67f1864b6f5060cda26b9d7bc4ad11f389'),
        ('ledger_private.refuse_shape', 'bc65b8975ca23292e9f00d9a9194e7545b5f3912f8dacd50f249658907d0e30a'),
        ('ledger_private.refuse_sidecar', 'e9e0bfb2ff32270f737d595c22007c5d2ba06ae9668eb0e2af15970f8404019f'),
        ('ledger_private.refuse_span', 'c0e6fe7dffc9a462e7e33bc345c6b908afb309860e8bf974c2ecf8be9d9588f4'),
        ('ledger_private.refuse_while_importing', 'df719095fd1e39068666b939d6f207067f471614d393cd7f9246ca26962e7af7'),
        ('ledger_private.role_faults', '043c0e15fdf6d4cef21a49a73991942579ee60a179a8a13179ef0a34c390d97a'),
        ('ledger_private.sha1', '122d1c1496cc6028356c6db4963b39d0f2bfe6213906cc98ae05550ab8cab0e0'),
        ('ledger_private.shape_fault', '443895637df117b02edd1c297abeeb56dc607f446b7adb4c351e606553f6040d'),
        ('ledger_private.shape_faults', 'fdb66240d6f193c7c690953c47ddd906105d5f94326b7081684cbd41ead1a03e'),
        ('ledger_private.standing_walls', '14bf0592bb21a534402208fb14671113c82f58b1389b68b11b19939f079af8af'),
        ('ledger_private.stated', '5640ce7c8b018a5e04742b495e7214fa2d2787f7074f2f47d7853800e71adec4'),
        ('ledger_private.stored_span', 'f05d93f24796713ee6070b34a21cbc21d3c3f94bebd1b0e868ea5ea343144c79'),
        ('ledger_private.typed', '2a8612661e81cdf7b39b81ea3a3185406e6d6a7c53075d061759c0b933693e26'),
        ('ledger_private.uuid5', 'cf8e571b2c73ce5ed5a1766e3719a7754cbfa8eb74a38f3a3b512cf5a3dd5af5'),
        ('ledger_private.way_faults', '6fc737e961a41f15223946744756220beeb8ff78ba04ca08b30eb5b145e64eee');
end
$$;

comment on function ledger_private.fingerprints() is
    'SHA-256 of the body of every function of the ledger but this one, as scripts/sqlbuild read it.';

create or replace function ledger.guard_check()
returns table (wall text, problem text, mend text)
language plpgsql
stable
security invoker
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
set standard_conforming_strings = on
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set timezone = 'UTC'
set bytea_output = 'hex'
set extra_float_digits = 1
as $$
declare
    v_table constant oid := to_regclass('ledger.universal_registry');
    v_owner oid;
    v_epoch record;
    v_door constant text := 'universal_registry_before_insert_0_import';
    v_again constant text := 'As the owner, run this version''s migration again: logline migrate --again, or '
        'psql -v ON_ERROR_STOP=1 -1 -f 20261124000000_loglineos_0_2_0.sql (in supabase/migrations).';
begin
    select c.relowner into v_owner from pg_catalog.pg_class as c where c.oid = v_table and c.relkind = 'r';
    if v_owner is null then
        return query values (
            'table ledger.universal_registry', 'is not there, or no ordinary table',
            'Rename the ledger back, or restore it from a backup.'
        );
        return;
    end if;

    -- The import door comes first and alone: it takes other walls down, and its end puts them up again.
    return query
    select 'trigger ' || t.tgname, 'is the import door: rows come in as they are, and only the owner appends',
        'select ledger.import_end()'
    from pg_catalog.pg_trigger as t
    where t.tgrelid = v_table
        and t.tgname = v_door
        and t.tgfoid = to_regprocedure('ledger_private.refuse_while_importing()');
    if found then
        return;
    end if;

    -- The table itself.
    return query
    select 'table ledger.universal_registry', t.problem, 'alter table ledger.universal_registry ' || t.mend
    from pg_catalog.pg_class as c
    cross join lateral (values
        (c.relpersistence <> 'p', 'is not written to the WAL: a crash empties it', 'set logged'),
        (not c.relrowsecurity, 'row level security is off', 'enable row level security'),
        (not c.relforcerowsecurity, 'row level security does not bind its owner', 'force row level security')
    ) as t (falls, problem, mend)
    where c.oid = v_table and t.falls
    union all
    select 'table ledger.universal_registry', 'shows rows of its child ' || i.inhrelid::regclass,
        format('alter table %s no inherit %s', i.inhrelid::regclass, i.inhparent::regclass)
    from pg_catalog.pg_inherits as i
    where i.inhparent = v_table
    union all
    select 'table ledger.universal_registry', 'shows its rows in its parent ' || i.inhparent::regclass,
        case when c.relispartition
            then format('alter table %s detach partition %s', i.inhparent::regclass, i.inhrelid::regclass)
            else format('alter table %s no inherit %s', i.inhrelid::regclass, i.inhparent::regclass)
        end
    from pg_catalog.pg_inherits as i
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    where i.inhrelid = v_table
    union all
    select 'rule ' || r.rulename, 'rewrites what is asked of ' || r.ev_class::regclass,
        format('drop rule %I on %s', r.rulename, r.ev_class::regclass)
    from pg_catalog.pg_rewrite as r
    join pg_catalog.pg_class as c on c.oid = r.ev_class
    where (r.ev_class = v_table or c.relnamespace = to_regnamespace('ledger'))
        and r.rulename <> '_RETURN';

    -- What was built and does not stand as it was. A text that came through Windows has other ends of lines.
    return query
    select b.kind || ' ' || b.name,
        case when s.name is null then 'is not there' else 'is not as it was built, but ' || s.stands end,
        case b.kind
            when 'trigger' then built.statement
            when 'policy' then case when s.name is not null
                then format('drop policy %I on ledger.universal_registry; ', b.name) else '' end
                || built.statement
            when 'index' then case when s.name is not null then format('drop index %s; ', b.name) else '' end
                || built.statement
            when 'constraint' then case when s.name is not null
                then format('alter table ledger.universal_registry drop constraint %I; ', b.name) else '' end
                || built.statement
            when 'publication' then case when s.name is not null then 'drop publication loglineos; ' else '' end
                || built.statement
            when 'column' then 'Make the column again as it was built: ' || built.statement || '.'
            else v_again
        end
    from ledger_private.built_walls() as b
    cross join lateral (select replace(b.stands, '%owner%', v_owner::regrole::text)) as built (statement)
    left join ledger_private.standing_walls() as s on s.kind = b.kind and s.name = b.name
    where b.kind <> 'right'
        and s.stands is distinct from replace(b.stands, chr(13), '');

    -- What stands and was not built. A view of the user's own has its own section; an index that refuses no
    -- row, and a right to read as far as the policies let, hurt nobody.
    return query
    select s.kind || ' ' || s.name, 'is none of the ledger''s',
        case s.kind
            when 'trigger' then format('drop trigger %I on %s', s.name,
                substring(s.stands from '; alter table (.*) enable '))
            when 'policy' then format('drop policy %I on ledger.universal_registry', s.name)
            when 'index' then 'drop index ' || s.name
            when 'function' then 'drop routine ' || s.name
            when 'right' then s.stands
            else format('alter table ledger.universal_registry drop %s %I', s.kind, s.name)
        end
    from ledger_private.standing_walls() as s
    where not exists (
            select from ledger_private.built_walls() as b where b.kind = s.kind and b.name = s.name
        )
        and s.kind <> 'view'
        and not (s.kind = 'index' and s.stands not like 'CREATE UNIQUE %' and s.stands not like '% -- invalid')
        and not (s.kind = 'right' and s.name ~ '^(select on .*|usage on schema ledger) to (?!public$)'
            and s.name !~ ' with grant option$')
        and not (s.kind = 'right' and s.name like '% on function %' and not exists (
            select from ledger_private.built_walls() as b
            where b.kind = 'function' and s.name like '% on function ' || b.name || ' to %'
        ));

    -- Bodies.
    return query
    select 'function ' || b.name, 'its body is not the one that was built', v_again
    from ledger_private.built_walls() as b
    join pg_catalog.pg_proc as p on p.oid = to_regprocedure(b.name)
    where b.kind = 'function'
        and p.prosqlbody is null
        and b.name <> 'ledger_private.fingerprints()'
        and not exists (
            select
            from ledger_private.fingerprints() as f
            where f.name = split_part(b.name, '(', 1)
                and f.digest = encode(sha256(convert_to(replace(p.prosrc, chr(13), ''), 'UTF8')), 'hex')
        );

    -- Who owns a part of the ledger may replace it.
    return query
    select o.wall, 'is owned by ' || o.owner::regrole,
        format('alter %s owner to %s', o.wall, v_owner::regrole)
    from (
        select 'function ' || p.oid::regprocedure, p.proowner
        from pg_catalog.pg_proc as p
        where p.pronamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_private'))
        union all
        select 'schema ' || n.nspname, n.nspowner
        from pg_catalog.pg_namespace as n
        where n.nspname in ('ledger', 'ledger_private', 'engine')
        union all
        select b.kind || ' ' || b.name, c.relowner
        from ledger_private.built_walls() as b
        join pg_catalog.pg_class as c on c.oid = to_regclass(b.name)
        where b.kind = 'view'
    ) as o (wall, owner)
    where o.owner <> v_owner;

    return query select * from ledger_private.way_faults(v_table);
    return query select * from ledger_private.role_faults(v_owner);

    -- The extension form (80_import). A dump asks the extension for its tables; the lock holds as long as it
    -- is no member, and needs the table's type.
    return query
    select 'extension loglineos', t.problem, t.mend
    from pg_catalog.pg_extension as e
    cross join lateral (
        select to_regprocedure('ledger_private.drop_extension_destroys_the_ledger()')::oid as lock,
            exists (
                select
                from pg_catalog.pg_depend as d
                where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = v_table
                    and d.refobjid = e.oid and d.deptype = 'e'
            ) as owns
    ) as is_
    cross join lateral (
        select exists (
                select
                from pg_catalog.pg_depend as d
                where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = is_.lock
                    and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
            ) as member,
            exists (
                select
                from pg_catalog.pg_depend as d
                join pg_catalog.pg_type as y on y.oid = d.refobjid and y.typrelid = v_table
                where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = is_.lock
                    and d.refclassid = 'pg_catalog.pg_type'::regclass and d.deptype = 'n'
            ) as holds
    ) as lock
    cross join lateral (values
        (not is_.owns, 'has lost its table', 'alter extension loglineos add table ledger.universal_registry'),
        (is_.owns and is_.lock is null, 'drop extension would destroy the ledger without a word',
            'select ledger_private.lock_extension()'),
        (is_.owns and lock.member, 'drop extension would destroy the ledger without a word',
            'alter extension loglineos drop function ledger_private.drop_extension_destroys_the_ledger()'),
        (is_.owns and is_.lock is not null and not lock.member and not lock.holds,
            'drop extension would destroy the ledger without a word',
            'drop function ledger_private.drop_extension_destroys_the_ledger(); '
            'select ledger_private.lock_extension()'),
        (
            is_.owns and not exists (
                select
                from unnest(e.extconfig, e.extcondition) as c (relation, condition)
                where c.relation = v_table and coalesce(c.condition, '') = ''
            ),
            'a dump would leave out rows of the ledger',
            format('update pg_catalog.pg_extension set extconfig = array[%s], extcondition = array[''''] '
                'where extname = ''loglineos''', v_table)
        )
    ) as t (falls, problem, mend)
    where e.extname = 'loglineos'
        and t.falls;

    -- Rows. Each was inserted by the transaction that its xact names, so two of different xact can not have
    -- one xmin, unless something has written all rows anew (VACUUM FULL and CLUSTER keep the xmin). An honest
    -- restore does; it ends with an epoch span, and its rows may name transactions that are yet to come.
    -- Looked at: the oldest and the newest since.
    if not has_table_privilege(v_table, 'select') then
        return query values (
            'rows of ledger.universal_registry', 'may not be read by ' || current_user,
            format('grant select on ledger.universal_registry to %I', current_user)
        );
        return;
    end if;
    select max(r.accepted_at) as accepted_at, coalesce(max(r.xact::text::numeric), 0)::text::xid8 as xact
    into v_epoch
    from ledger.universal_registry as r
    where r.tenant_id = 'system'
        and r.entity_type = 'epoch';
    return query
    select 'rows of ledger.universal_registry', 'were appended by many transactions and written by one',
        'After a restore: select ledger.import_begin(); select ledger.import_end(). Else compare the ledger '
        'with a backup: its rows were written anew.'
    from (
        (
            select r.xmin::text as inserter, r.xact, r.accepted_at, 'oldest' as sample
            from ledger.universal_registry as r
            where r.xact >= v_epoch.xact
            order by r.xact
            limit 100
        )
        union all
        (
            select r.xmin::text, r.xact, r.accepted_at, 'newest'
            from ledger.universal_registry as r
            where v_epoch.accepted_at is null
                or r.xact < pg_snapshot_xmax(pg_current_snapshot())
            order by r.xact desc
            limit 100
        )
    ) as w
    where w.accepted_at > coalesce(v_epoch.accepted_at, '-infinity')
    group by w.inserter, w.sample
    having count(distinct w.xact) > 1
    limit 1;
end
$$;

comment on function ledger.guard_check() is
    'One row for every wall of the ledger that does not stand: which, what is wrong, and the statement that '
    'mends it (or, with a full stop, what to do). No row: all stand. The sidecar asks it for readiness.';

revoke all on function ledger.guard_check(), ledger_private.built_walls(), ledger_private.fingerprints()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.guard_check(), ledger_private.built_walls(), ledger_private.fingerprints()
    to service_role, loglineos_sidecar;

-- 90 publication: the doorbell. Inserts only; the columns that routing needs and no bodies.
--
-- A publication is never a member of an extension: it survives `drop extension`, without the table.
-- So it is made or mended, whichever is needed.

create or replace function ledger_private.mend_publication()
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
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
set search_path = pg_catalog, pg_temp
return '0.2.0';

comment on function ledger_private.version() is
    'The version of this schema. A sidecar that needs a later one refuses to start.';

revoke all on function ledger_private.version()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.version() to loglineos_sidecar;

-- Remember it where `supabase db push` and `logline migrate` look.
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
    version text not null primary key,
    statements text[],
    name text
);
-- The same question as in 00_schemas: an insert runs the triggers of whose table it is.
do $strangers$
declare
    v_owner name := (
        select o.rolname
        from (
            select nspowner
            from pg_catalog.pg_namespace
            where oid = 'supabase_migrations'::regnamespace
            union all
            select relowner
            from pg_catalog.pg_class
            where oid = 'supabase_migrations.schema_migrations'::regclass
        ) as found (owner)
        join pg_catalog.pg_roles as o on o.oid = found.owner
        join pg_catalog.pg_roles as me on me.rolname = current_user
        where not o.rolsuper
            and o.oid <> me.oid
            and (me.rolsuper or not pg_catalog.pg_has_role(o.oid, 'usage'))
        limit 1
    );
begin
    if v_owner is not null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'supabase_migrations.schema_migrations, or its schema, belongs to ' || v_owner,
            hint = format('If %I owns this database''s migrations, run it as %I (set role). If not, look what '
                'it is, and drop it.', v_owner, v_owner);
    end if;
end
$strangers$;
insert into supabase_migrations.schema_migrations (version, name)
values
    ('20261123000000', 'loglineos_0_1_0'),
    ('20261124000000', 'loglineos_0_2_0')
on conflict do nothing;

commit;
