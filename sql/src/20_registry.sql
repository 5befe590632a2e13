-- 20 registry: the table. Everything that exists or happens is one row of it.
--
-- The column order is the order of the public contract and never changes; sidecar/span reads by it.
-- A sparse column costs one bit.
--
-- The defaults are null on purpose. A real one would hide from the trigger (30_guards) whether the
-- caller stated the column, and a row that states its hash must state everything that is hashed.
-- They are there because type generators and PostgREST read from them that a column may be left out;
-- the trigger fills it.

create table ledger.universal_registry (
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
    constraint universal_registry_id_check check (
        id not in (
            '00000000-0000-0000-0000-000000000000',
            'ffffffff-ffff-ffff-ffff-ffffffffffff'
        )
    ),
    constraint universal_registry_seq_check check (seq >= 0),
    constraint universal_registry_entity_type_check check (entity_type ~ '^[a-z][a-z0-9_.-]{0,62}$'),
    constraint universal_registry_who_check check (who ~ '^\S' and char_length(who) <= 256),
    constraint universal_registry_did_check check (char_length(did) <= 500),
    constraint universal_registry_this_check check (char_length(this) <= 500),
    constraint universal_registry_confirmed_by_check check (char_length(confirmed_by) <= 500),
    constraint universal_registry_if_ok_check check (char_length(if_ok) <= 4000),
    constraint universal_registry_if_doubt_check check (char_length(if_doubt) <= 4000),
    constraint universal_registry_if_not_check check (char_length(if_not) <= 4000),
    constraint universal_registry_reason_check check (char_length(reason) <= 4000),
    constraint universal_registry_at_check check (
        at >= '0001-01-01 00:00:00+00' and at < '10000-01-01 00:00:00+00'
    ),
    constraint universal_registry_scheduled_at_check check (
        scheduled_at >= '0001-01-01 00:00:00+00' and scheduled_at < '10000-01-01 00:00:00+00'
    ),
    constraint universal_registry_effective_at_check check (
        effective_at >= '0001-01-01 00:00:00+00' and effective_at < '10000-01-01 00:00:00+00'
    ),
    constraint universal_registry_expires_at_check check (
        expires_at >= '0001-01-01 00:00:00+00' and expires_at < '10000-01-01 00:00:00+00'
    ),
    constraint universal_registry_ttl_at_check check (
        ttl_at >= '0001-01-01 00:00:00+00' and ttl_at < '10000-01-01 00:00:00+00'
    ),
    constraint universal_registry_related_to_check check (
        cardinality(related_to) <= 1000
        and coalesce(array_ndims(related_to), 1) = 1
        and array_position(related_to, null) is null
    ),
    constraint universal_registry_scopes_check check (
        cardinality(scopes) <= 1000
        and coalesce(array_ndims(scopes), 1) = 1
        and array_position(scopes, null) is null
        and pg_column_size(scopes) <= 65536
    ),
    constraint universal_registry_tags_check check (
        cardinality(tags) <= 1000
        and coalesce(array_ndims(tags), 1) = 1
        and array_position(tags, null) is null
        and pg_column_size(tags) <= 65536
    ),
    constraint universal_registry_links_check check (
        jsonb_typeof(links) = 'object' and pg_column_size(links) <= 262144
    ),
    constraint universal_registry_trace_id_check check (char_length(trace_id) between 1 and 256),
    constraint universal_registry_session_id_check check (char_length(session_id) between 1 and 256),
    constraint universal_registry_idempotency_key_check check (
        char_length(idempotency_key) between 1 and 256
    ),
    constraint universal_registry_app_id_check check (char_length(app_id) between 1 and 256),
    constraint universal_registry_device_id_check check (char_length(device_id) between 1 and 256),
    constraint universal_registry_schema_id_check check (char_length(schema_id) between 1 and 256),
    constraint universal_registry_sig_key_id_check check (char_length(sig_key_id) between 1 and 256),
    constraint universal_registry_owner_id_check check (owner_id ~ '^\S' and char_length(owner_id) <= 200),
    constraint universal_registry_tenant_id_check check (
        tenant_id ~ '^\S' and char_length(tenant_id) <= 200
    ),
    constraint universal_registry_visibility_check check (visibility in ('private', 'tenant', 'public')),
    constraint universal_registry_sensitivity_check check (
        sensitivity in ('public', 'internal', 'secret', 'pii')
    ),
    constraint universal_registry_status_check check (status ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),
    constraint universal_registry_severity_check check (char_length(severity) between 1 and 128),
    constraint universal_registry_kind_check check (char_length(kind) between 1 and 128),
    constraint universal_registry_version_check check (char_length(version) between 1 and 128),
    constraint universal_registry_language_check check (char_length(language) between 1 and 128),
    constraint universal_registry_runtime_check check (char_length(runtime) between 1 and 128),
    constraint universal_registry_unit_check check (char_length(unit) between 1 and 128),
    constraint universal_registry_sig_alg_check check (char_length(sig_alg) between 1 and 128),
    constraint universal_registry_attempt_check check (attempt >= 0),
    constraint universal_registry_name_check check (char_length(name) <= 500),
    constraint universal_registry_description_check check (char_length(description) <= 20000),
    constraint universal_registry_layer_check check (
        layer in ('session', 'temporary', 'permanent', 'shared', 'local')
    ),
    constraint universal_registry_content_check check (pg_column_size(content) <= 1048576),
    constraint universal_registry_input_check check (pg_column_size(input) <= 1048576),
    constraint universal_registry_output_check check (pg_column_size(output) <= 1048576),
    constraint universal_registry_code_check check (octet_length(code) <= 262144),
    constraint universal_registry_timeout_ms_check check (timeout_ms between 1 and 86400000),
    constraint universal_registry_error_check check (pg_column_size(error) <= 262144),
    constraint universal_registry_duration_ms_check check (duration_ms >= 0),
    constraint universal_registry_tokens_in_check check (tokens_in >= 0),
    constraint universal_registry_tokens_out_check check (tokens_out >= 0),
    constraint universal_registry_tool_use_count_check check (tool_use_count >= 0),
    constraint universal_registry_value_check check (abs(value) < 1e38 and scale(value) <= 38),
    constraint universal_registry_cost_check check (abs(cost) < 1e38 and scale(cost) <= 38),
    constraint universal_registry_confidence_check check (
        confidence between 0 and 1 and scale(confidence) <= 38
    ),
    constraint universal_registry_model_check check (char_length(model) between 1 and 256),
    constraint universal_registry_compiled_hash_check check (compiled_hash ~ '^[0-9a-f]{64}$'),
    constraint universal_registry_prev_hash_check check (prev_hash ~ '^[0-9a-f]{64}$'),
    constraint universal_registry_curr_hash_check check (curr_hash ~ '^[0-9a-f]{64}$'),
    constraint universal_registry_public_key_check check (public_key ~ '^[0-9a-f]{64}$'),
    constraint universal_registry_signature_check check (
        signature is null or (
            signature ~ '^[0-9a-f]{128}$'
            and curr_hash is not null
            and public_key is not null
        )
    ),
    constraint universal_registry_metadata_check check (
        jsonb_typeof(metadata) = 'object' and pg_column_size(metadata) <= 262144
    )
);

comment on table ledger.universal_registry is
    'Append-only: one row is one version (id, seq) of one thing. Nothing is ever changed or removed; the next version is.';

comment on column ledger.universal_registry.id is
    'Identity of the thing; all its versions share it. Absent: a new ledger.uuid7(). Version 8 and system ids are not for clients. Writer: client or engine.';
comment on column ledger.universal_registry.seq is
    'Version of the thing, from 0, without gaps. Absent: 0. Writer: client or engine.';
comment on column ledger.universal_registry.entity_type is
    'Kind of span, for example function, request, execution, policy. Decides who may write it. Never changes between versions. Writer: client or engine.';
comment on column ledger.universal_registry.who is
    'Actor, as role:name: user:<id>, client:<name>; kernel:, policy:, sidecar: for the engine, system: for governors. Absent: user:<sub>. Writer: client or engine.';
comment on column ledger.universal_registry.did is
    'Verb: what the actor did, for example defined, scheduled, executed. Writer: client or engine.';
comment on column ledger.universal_registry.this is
    'Object or topic of the act, for example run_code or memory.note. Writer: client or engine.';
comment on column ledger.universal_registry.at is
    'Event time as the writer claims it; for clients -30 days to +5 minutes of now. Never used for order. Absent: now. Shown as "when" in the views. Writer: client or engine.';
comment on column ledger.universal_registry.confirmed_by is
    'Who confirmed the act. Writer: client or engine.';
comment on column ledger.universal_registry.if_ok is
    'What follows when the act is confirmed. Writer: client or engine.';
comment on column ledger.universal_registry.if_doubt is
    'What follows in doubt. Writer: client or engine.';
comment on column ledger.universal_registry.if_not is
    'What follows when the act is refused or rolled back. Writer: client or engine.';
comment on column ledger.universal_registry.xact is
    'Inserting transaction: makes catch-up free of gaps. Not part of the hash. Writer: the database, always.';
comment on column ledger.universal_registry.accepted_at is
    'When the database received the span (its own clock). Not part of the hash. Writer: the database, always.';
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
    'User that owns the span: the wall of private rows. Absent: the claim sub. Never changes between versions. Writer: client (own only) or engine.';
comment on column ledger.universal_registry.tenant_id is
    'Tenant of the span: the wall of everything; system is the system''s. Absent: the claim. Never changes between versions. Writer: client (own only) or engine.';
comment on column ledger.universal_registry.visibility is
    'Who may read it: private (the owner), tenant, public (everybody signed in; needs the governing right). Absent: private. Writer: client or engine.';
comment on column ledger.universal_registry.sensitivity is
    'How sensitive: public, internal, secret or pii. Writer: client or engine.';
comment on column ledger.universal_registry.scopes is
    'Rights that the span names, at most 1000. Writer: client or engine.';
comment on column ledger.universal_registry.app_id is
    'Application that the span belongs to. Writer: client.';
comment on column ledger.universal_registry.device_id is
    'Device that the span comes from. Writer: client.';
comment on column ledger.universal_registry.status is
    'State of life; which may follow which depends on entity_type (ledger.may_follow). Writer: client or engine.';
comment on column ledger.universal_registry.is_deleted is
    'Tombstone: this version ends the thing; visible_timeline hides it. Absent: false. Writer: client or engine.';
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
    'curr_hash of the version before; null when that has none. Filled when absent and curr_hash is not stated. Writer: client, engine or the database.';
comment on column ledger.universal_registry.curr_hash is
    'BLAKE3-256 of the canonical span, 64 lower-case hex digits. Who states it states every hashed column. Writer: client or engine.';
comment on column ledger.universal_registry.signature is
    'Ed25519 over the 32 bytes of curr_hash, 128 lower-case hex digits. Not part of the hash. Writer: client or engine.';
comment on column ledger.universal_registry.public_key is
    'Ed25519 public key of the signer, 64 lower-case hex digits. Writer: client or engine.';
comment on column ledger.universal_registry.sig_alg is
    'Form of the signature: ed25519-blake3-v1. Writer: client or engine.';
comment on column ledger.universal_registry.sig_key_id is
    'Name of the key: did:logline:<hash of the public key>. Writer: client or engine.';
comment on column ledger.universal_registry.metadata is
    'Everything else, an object, at most 256 KiB. The key engine {cause, root, depth, kind} is the engine''s. Writer: client or engine.';

comment on constraint universal_registry_pkey on ledger.universal_registry is
    'The fence: of two writers of one version, one wins.';
comment on constraint universal_registry_id_check on ledger.universal_registry is
    'Neither the nil nor the max UUID names a thing.';
comment on constraint universal_registry_seq_check on ledger.universal_registry is
    'Versions count from 0.';
comment on constraint universal_registry_entity_type_check on ledger.universal_registry is
    'A lower-case word of at most 63 characters; dots, hyphens and underscores may stand inside.';
comment on constraint universal_registry_who_check on ledger.universal_registry is
    'Not empty, no space in front, at most 256 characters.';
comment on constraint universal_registry_did_check on ledger.universal_registry is
    'At most 500 characters.';
comment on constraint universal_registry_this_check on ledger.universal_registry is
    'At most 500 characters.';
comment on constraint universal_registry_confirmed_by_check on ledger.universal_registry is
    'At most 500 characters.';
comment on constraint universal_registry_if_ok_check on ledger.universal_registry is
    'At most 4000 characters.';
comment on constraint universal_registry_if_doubt_check on ledger.universal_registry is
    'At most 4000 characters.';
comment on constraint universal_registry_if_not_check on ledger.universal_registry is
    'At most 4000 characters.';
comment on constraint universal_registry_reason_check on ledger.universal_registry is
    'At most 4000 characters.';
comment on constraint universal_registry_at_check on ledger.universal_registry is
    'Finite, and a year that has four digits in every format.';
comment on constraint universal_registry_scheduled_at_check on ledger.universal_registry is
    'Finite, and a year that has four digits in every format.';
comment on constraint universal_registry_effective_at_check on ledger.universal_registry is
    'Finite, and a year that has four digits in every format.';
comment on constraint universal_registry_expires_at_check on ledger.universal_registry is
    'Finite, and a year that has four digits in every format.';
comment on constraint universal_registry_ttl_at_check on ledger.universal_registry is
    'Finite, and a year that has four digits in every format.';
comment on constraint universal_registry_related_to_check on ledger.universal_registry is
    'One dimension, no nulls, at most 1000.';
comment on constraint universal_registry_scopes_check on ledger.universal_registry is
    'One dimension, no nulls, at most 1000 and 64 KiB.';
comment on constraint universal_registry_tags_check on ledger.universal_registry is
    'One dimension, no nulls, at most 1000 and 64 KiB.';
comment on constraint universal_registry_links_check on ledger.universal_registry is
    'An object of at most 256 KiB.';
comment on constraint universal_registry_trace_id_check on ledger.universal_registry is
    '1 to 256 characters.';
comment on constraint universal_registry_session_id_check on ledger.universal_registry is
    '1 to 256 characters.';
comment on constraint universal_registry_idempotency_key_check on ledger.universal_registry is
    '1 to 256 characters.';
comment on constraint universal_registry_app_id_check on ledger.universal_registry is
    '1 to 256 characters.';
comment on constraint universal_registry_device_id_check on ledger.universal_registry is
    '1 to 256 characters.';
comment on constraint universal_registry_schema_id_check on ledger.universal_registry is
    '1 to 256 characters.';
comment on constraint universal_registry_sig_key_id_check on ledger.universal_registry is
    '1 to 256 characters.';
comment on constraint universal_registry_owner_id_check on ledger.universal_registry is
    'Not empty, no space in front, at most 200 characters.';
comment on constraint universal_registry_tenant_id_check on ledger.universal_registry is
    'Not empty, no space in front, at most 200 characters.';
comment on constraint universal_registry_visibility_check on ledger.universal_registry is
    'One of three.';
comment on constraint universal_registry_sensitivity_check on ledger.universal_registry is
    'One of four.';
comment on constraint universal_registry_status_check on ledger.universal_registry is
    'A word of at most 63 characters.';
comment on constraint universal_registry_severity_check on ledger.universal_registry is
    '1 to 128 characters.';
comment on constraint universal_registry_kind_check on ledger.universal_registry is
    '1 to 128 characters.';
comment on constraint universal_registry_version_check on ledger.universal_registry is
    '1 to 128 characters.';
comment on constraint universal_registry_language_check on ledger.universal_registry is
    '1 to 128 characters.';
comment on constraint universal_registry_runtime_check on ledger.universal_registry is
    '1 to 128 characters.';
comment on constraint universal_registry_unit_check on ledger.universal_registry is
    '1 to 128 characters.';
comment on constraint universal_registry_sig_alg_check on ledger.universal_registry is
    '1 to 128 characters.';
comment on constraint universal_registry_attempt_check on ledger.universal_registry is
    'A count.';
comment on constraint universal_registry_name_check on ledger.universal_registry is
    'At most 500 characters.';
comment on constraint universal_registry_description_check on ledger.universal_registry is
    'At most 20000 characters.';
comment on constraint universal_registry_layer_check on ledger.universal_registry is
    'One of five.';
comment on constraint universal_registry_content_check on ledger.universal_registry is
    'At most 1 MiB.';
comment on constraint universal_registry_input_check on ledger.universal_registry is
    'At most 1 MiB.';
comment on constraint universal_registry_output_check on ledger.universal_registry is
    'At most 1 MiB.';
comment on constraint universal_registry_code_check on ledger.universal_registry is
    'At most 256 KiB.';
comment on constraint universal_registry_timeout_ms_check on ledger.universal_registry is
    'From 1 millisecond to a day.';
comment on constraint universal_registry_error_check on ledger.universal_registry is
    'At most 256 KiB.';
comment on constraint universal_registry_duration_ms_check on ledger.universal_registry is
    'Not negative.';
comment on constraint universal_registry_tokens_in_check on ledger.universal_registry is
    'Not negative.';
comment on constraint universal_registry_tokens_out_check on ledger.universal_registry is
    'Not negative.';
comment on constraint universal_registry_tool_use_count_check on ledger.universal_registry is
    'Not negative.';
comment on constraint universal_registry_value_check on ledger.universal_registry is
    'Finite, at most 38 digits on either side of the point.';
comment on constraint universal_registry_cost_check on ledger.universal_registry is
    'Finite, at most 38 digits on either side of the point.';
comment on constraint universal_registry_confidence_check on ledger.universal_registry is
    '0 to 1, at most 38 digits.';
comment on constraint universal_registry_model_check on ledger.universal_registry is
    '1 to 256 characters.';
comment on constraint universal_registry_compiled_hash_check on ledger.universal_registry is
    '64 lower-case hex digits.';
comment on constraint universal_registry_prev_hash_check on ledger.universal_registry is
    '64 lower-case hex digits.';
comment on constraint universal_registry_curr_hash_check on ledger.universal_registry is
    '64 lower-case hex digits.';
comment on constraint universal_registry_public_key_check on ledger.universal_registry is
    '64 lower-case hex digits.';
comment on constraint universal_registry_signature_check on ledger.universal_registry is
    '128 lower-case hex digits, over a curr_hash, by a public_key. Without a signature: free.';
comment on constraint universal_registry_metadata_check on ledger.universal_registry is
    'An object of at most 256 KiB.';
