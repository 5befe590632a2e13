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
