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
