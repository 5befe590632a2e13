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
