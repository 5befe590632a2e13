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
