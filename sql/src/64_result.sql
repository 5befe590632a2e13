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
