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
