-- What BenchmarkReads reads: made, not inserted, so that ten million rows take minutes. Run by the owner on
-- a server of the benchmark's own, the guards off.
--
-- A thousand tenants, log-uniform: the largest has a tenth of the rows and many users with little each, the
-- others have twenty users. Ids begin with a time, versions follow one to five times, four in five rows are
-- private. A run is three rows: request, its last version, execution.

create unlogged table public.bench_function (
    n integer primary key,
    id uuid not null,
    tenant integer not null,
    owner_id text not null
);

create function public.bench_id(p_at timestamptz, p_version integer)
returns uuid
language sql
volatile
as $$
    select (
        lpad(to_hex(floor(extract(epoch from p_at) * 1000)::bigint), 12, '0')
        || p_version::text || substr(md5(random()::text), 1, 3)
        || '9' || substr(md5(random()::text), 1, 15)
    )::uuid
$$;

-- User 0 of every tenant is whom the benchmark speaks for.
create function public.bench_user(p_tenant integer, p_random double precision)
returns text
language sql
immutable
as $$
    select md5(
        p_tenant || ' ' || floor(p_random * case p_tenant when 1 then 50000 else 20 end)
    )::uuid::text
$$;

create function public.bench_visibility(p_random double precision)
returns text
language sql
immutable
as $$
    select case when p_random < 0.8 then 'private' when p_random < 0.9995 then 'tenant' else 'public' end
$$;

-- Versions one to five of p_count functions, a day before everything else.
create procedure public.bench_functions(p_count integer)
language sql
as $$
    insert into public.bench_function
    select n, public.bench_id(now() - interval '91 days', 7), tenant,
        public.bench_user(tenant, case when random() < 0.2 then 0 else random() end)
    from (
        select n, floor(power(1000, random()))::integer as tenant
        from generate_series(1, p_count) as n
        offset 0
    ) as drawn;

    insert into ledger.universal_registry (
        id, seq, entity_type, who, did, at, xact, accepted_at, owner_id, tenant_id, visibility, status,
        is_deleted, name, language, code
    )
    select f.id, seq, 'function', 'user:' || f.owner_id, 'defined', moment, f.n::text::xid8, moment,
        f.owner_id, 't' || f.tenant, public.bench_visibility((f.n * 0.618034) % 1), 'active', false,
        'function ' || f.n, 'javascript', 'return { sum: input.a + ' || f.n || ' };'
    from public.bench_function as f
    cross join generate_series(0, f.n % 5) as seq
    cross join lateral (
        select now() - interval '91 days' + interval '1 minute' * seq + interval '1 millisecond' * f.n as moment
    ) as times;
$$;

-- Units p_from to p_to of p_units, over ninety days until now: each a run and a note, six rows or so.
create procedure public.bench_units(p_from integer, p_to integer, p_units integer)
language sql
as $$
    with drawn as materialized (
        select u, now() - interval '90 days' * (1 - u::double precision / p_units) as moment,
            floor(power(functions.count, random()))::integer as n, random() as who, random() as seen,
            gen_random_uuid() as trace
        from generate_series(p_from, p_to) as u
        cross join (select count(*)::integer as count from public.bench_function) as functions
    ),
    unit as materialized (
        select d.*, f.id as function_id, f.tenant, public.bench_visibility(d.seen) as visibility,
            -- Half of the runs of a function are its owner's.
            case when d.who < 0.5 then f.owner_id else public.bench_user(f.tenant, d.who) end as owner_id,
            public.bench_id(d.moment, 7) as request_id, public.bench_id(d.moment, 8) as execution_id,
            public.bench_id(d.moment, 7) as note_id
        from drawn as d
        join public.bench_function as f using (n)
    )
    insert into ledger.universal_registry (
        id, seq, entity_type, who, did, at, xact, accepted_at, parent_id, related_to, trace_id, owner_id,
        tenant_id, visibility, status, is_deleted, name, input, output, duration_ms, prev_hash, curr_hash,
        metadata
    )
    select *
    from (
        select request_id, 0 as seq, 'request', 'user:' || owner_id, 'requested', moment,
            (100000 + 8 * u::bigint)::text::xid8, moment as accepted_at, function_id, null::uuid[],
            trace::text, owner_id, 't' || tenant, visibility,
            'scheduled', false, null, jsonb_build_object('a', u), null::jsonb, null::integer,
            null, null, null::jsonb
        from unit
        union all
        select request_id, 1, 'request', 'kernel:run_code', 'ran', moment + interval '5 ms',
            (100001 + 8 * u::bigint)::text::xid8, moment + interval '5 ms', function_id, null,
            trace::text, owner_id, 't' || tenant, visibility,
            'complete', false, null, null, null, null, repeat('a', 64), repeat('b', 64), null
        from unit
        union all
        select execution_id, 0, 'execution', 'kernel:run_code', 'executed', moment + interval '5 ms',
            (100001 + 8 * u::bigint)::text::xid8, moment + interval '5 ms', function_id, array[request_id],
            trace::text, owner_id, 't' || tenant, visibility,
            'complete', false, null, jsonb_build_object('a', u), jsonb_build_object('sum', u + 1), 1,
            null, repeat('c', 64), jsonb_build_object('engine', jsonb_build_object('depth', 1, 'kind',
                'execution', 'root', request_id, 'cause', jsonb_build_array(request_id, 0)))
        from unit
        union all
        select note_id, seq, 'note', 'user:' || owner_id, 'noted', moment + interval '1 s' * seq,
            (100002 + seq + 8 * u::bigint)::text::xid8, moment + interval '1 s' * seq, null, null,
            null, owner_id, 't' || tenant, visibility,
            null, seq = 4 and u % 3 = 0, 'note ' || u, null, null, null,
            null, null, jsonb_build_object('text', repeat('lorem ipsum ', 5))
        from unit
        cross join generate_series(0, u % 5) as seq
    ) as rows
    order by accepted_at, seq;
$$;
