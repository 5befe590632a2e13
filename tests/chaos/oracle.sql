-- The oracle: each query returns a sentence for every breach of one invariant, and nothing where it holds.
-- A line that begins with two hyphens and an @ names the invariant that follows; the test reads them in this order.
-- Spans of the tenant `probe` are the test's own marks that everything before them has been seen.

-- @ I1 each scheduled version of a function has exactly one request
select format('%s version %s of %s has %s requests', f.id, f.seq, f.tenant_id, count(r.id))
from ledger.universal_registry as f
left join ledger.universal_registry as r
    on r.entity_type = 'request'
    and r.seq = 0
    and r.metadata -> 'engine' ->> 'kind' = 'request'
    and r.metadata -> 'engine' -> 'cause' = jsonb_build_array(f.id, f.seq)
where f.entity_type = 'function'
    and f.status = 'scheduled'
    and not f.is_deleted
group by f.id, f.seq, f.tenant_id
having count(r.id) <> 1;

-- @ I1 each tick of a function that recurs has exactly one request
select format('function %s of %s has %s requests for %s', f.id, f.tenant_id, r.requests, tick)
from (
    select
        id,
        tenant_id,
        min(accepted_at) as since,
        max(accepted_at) filter (where status = 'archived') as until
    from ledger.universal_registry
    where entity_type = 'function' and name = 'chaos-recurring'
    group by id, tenant_id
) as f
cross join lateral generate_series(date_trunc('minute', f.since), f.until, interval '2 s') as tick
cross join lateral (
    select count(*) as requests
    from ledger.universal_registry as r
    where r.entity_type = 'request'
        and r.seq = 0
        and r.parent_id = f.id
        and r.at = tick
) as r
where r.requests > 1
    -- What is due while the function is archived may come or not.
    or r.requests = 0 and tick > f.since and tick < f.until - interval '5 s';

-- @ I1 a function that recurs has no request but its ticks'
select format('request %s of %s is of %s', r.id, f.id, r.at)
from ledger.universal_registry as f
join ledger.universal_registry as r
    on r.entity_type = 'request'
    and r.seq = 0
    and r.parent_id = f.id
where f.entity_type = 'function'
    and f.name = 'chaos-recurring'
    and f.seq = 0
    and (r.at <= f.accepted_at or extract(epoch from r.at)::numeric % 2 <> 0);

-- @ I1 no effect is without its cause
select format('%s %s is of %s, which is not there', r.entity_type, r.id, r.metadata -> 'engine' -> 'cause')
from ledger.universal_registry as r
where jsonb_typeof(r.metadata -> 'engine' -> 'cause') = 'array'
    and substr(r.id::text, 15, 1) = '8'
    and not exists (
        select from ledger.universal_registry as c
        where c.id = (r.metadata -> 'engine' -> 'cause' ->> 0)::uuid
            and c.seq = (r.metadata -> 'engine' -> 'cause' ->> 1)::int
    );

-- @ I2 each request ends once, or waits for a time that is still to come
select format('%s of %s: %s', r.id, r.tenant_id, r.statuses)
from (
    select
        id,
        min(tenant_id) as tenant_id,
        string_agg(status, ' ' order by seq) as statuses,
        count(*) filter (where status in ('complete', 'error', 'dead', 'cancelled')) as ends,
        (array_agg(status order by seq desc))[1] as last,
        (array_agg(scheduled_at order by seq desc))[1] as due
    from ledger.universal_registry
    where entity_type = 'request'
    group by id
) as r
where r.ends > 1
    or r.ends = 1 and r.last not in ('complete', 'error', 'dead', 'cancelled')
    or r.ends = 0 and not (r.last in ('scheduled', 'blocked', 'retry') and coalesce(r.due > now(), false));

-- @ I3 executions and the ends of attempts are one to one, in one transaction
select format('request %s %s attempt %s in %s, execution %s attempt %s in %s', coalesce(r.id, e.related_to[1]),
    r.status, r.attempt, r.xact, e.id, e.attempt, e.xact)
from (
    select *
    from ledger.universal_registry
    where entity_type = 'request'
        and (status in ('complete', 'error', 'retry', 'cancelled')
            or status = 'dead' and did = 'failed') -- its retries are used up; else sidecars were lost with it
) as r
full join (
    select *
    from ledger.universal_registry
    where entity_type in ('execution', 'provider_execution')
) as e
    on e.related_to[1] = r.id
    and e.xact = r.xact
    and e.attempt = r.attempt
where r.id is null
    or e.id is null and r.status <> 'cancelled' -- it may not have begun
    or e.status <> case r.status when 'complete' then 'complete' else 'error' end;

-- @ I3 each attempt of a request has one execution at most
select format('request %s attempt %s has %s executions', related_to[1], attempt, count(*))
from ledger.universal_registry
where entity_type in ('execution', 'provider_execution')
group by related_to[1], attempt
having count(*) > 1;

-- @ I3 what a run emits is there once, in its transaction
select format('execution %s %s emitted %s notes, says %s', e.id, e.status, count(n.id), e.output ->> 'emits')
from ledger.universal_registry as e
left join ledger.universal_registry as n
    on n.entity_type = 'note'
    and n.metadata -> 'engine' -> 'cause' = e.metadata -> 'engine' -> 'cause'
    and n.xact = e.xact
where e.entity_type = 'execution'
group by e.id, e.status, e.output
having count(n.id) <> coalesce((e.output ->> 'emits')::int, 0);

-- @ I3 nothing is left of a run that lost
select format('note %s of transaction %s has no execution beside it', n.id, n.xact)
from ledger.universal_registry as n
where n.entity_type = 'note'
    and not exists (
        select from ledger.universal_registry as e
        where e.entity_type = 'execution'
            and e.xact = n.xact
            and e.metadata -> 'engine' -> 'cause' = n.metadata -> 'engine' -> 'cause'
    );

-- @ I4 versions have no gap, and one tenant, owner and type
select format('%s has %s versions up to %s, of %s', id, count(*), max(seq), array_agg(distinct entity_type))
from ledger.universal_registry
group by id
having count(*) <> max(seq) + 1
    or count(distinct (tenant_id, owner_id, entity_type)) <> 1;

-- @ I4 requests move as docs/contract.md allows
select format('request %s goes from %s to %s at version %s', n.id, p.status, n.status, n.seq)
from ledger.universal_registry as n
join ledger.universal_registry as p
    on p.id = n.id
    and p.seq = n.seq - 1
where n.entity_type = 'request'
    and not case p.status
        when 'scheduled' then n.status in (
            'running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled', 'cancel_requested')
        when 'running' then n.status in (
            'running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled', 'cancel_requested')
        when 'retry' then n.status in (
            'scheduled', 'running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled', 'cancel_requested')
        when 'blocked' then n.status in (
            'scheduled', 'running', 'complete', 'error', 'retry', 'dead', 'blocked', 'cancelled', 'cancel_requested')
        when 'cancel_requested' then n.status = 'cancelled'
        when 'dead' then n.status = 'scheduled'
        else false
    end;

-- @ I4 each version follows the one before by hash
select format('%s version %s: prev_hash %s after curr_hash %s', n.id, n.seq, n.prev_hash, p.curr_hash)
from ledger.universal_registry as n
join ledger.universal_registry as p
    on p.id = n.id
    and p.seq = n.seq - 1
where n.prev_hash is distinct from p.curr_hash;

-- @ I4 requests die only after three lost sidecars
select format('request %s is dead after attempts %s', id, array_agg(attempt order by seq))
from ledger.universal_registry
where entity_type = 'request'
group by id
having bool_or(status = 'dead' and did is distinct from 'failed')
    and count(*) filter (where status = 'running') < 3;

-- @ I5 policies emit for each span what they say, once
select format('policy %s of %s for %s %s: %s spans, want %s', m.name, m.tenant_id, m.entity_type, m.id, m.emitted,
    m.wanted)
from (
    select
        p.name,
        s.tenant_id,
        s.entity_type,
        s.id,
        case p.name
            when 'chaos-even' then case when (s.content ->> 'n')::int % 2 = 0 then 2 else 0 end
            else 1
        end as wanted,
        (
            select count(*)
            from ledger.universal_registry as e
            where e.policy_id = p.id
                and e.metadata -> 'engine' -> 'cause' = jsonb_build_array(s.id, s.seq)
                and e.entity_type = case p.name
                    when 'chaos-echo' then 'echo'
                    when 'chaos-even' then 'mark'
                    when 'chaos-digest' then 'digest'
                    when 'chaos-run' then 'request'
                    when 'chaos-version' then 'task'
                    when 'chaos-throw' then 'policy_error'
                end
                and (e.entity_type <> 'request' or e.seq = 0)
        ) as emitted
    from ledger.universal_registry as p
    join ledger.universal_registry as s
        on s.tenant_id = p.tenant_id
        and s.entity_type = p.metadata -> 'when' ->> 'entity_type'
        and (p.metadata -> 'when' ->> 'status' is null or s.status = p.metadata -> 'when' ->> 'status')
        and (s.visibility <> 'private' or s.owner_id = p.owner_id)
    where p.entity_type = 'policy'
        and p.name like 'chaos-%'
        and (p.name <> 'chaos-version' or s.owner_id = p.owner_id) -- others' spans are not its to version
) as m
where m.emitted <> m.wanted;

-- @ I5 a policy emits nothing else
select format('%s %s is of policy %s for %s', e.entity_type, e.id, p.name, e.metadata -> 'engine' -> 'cause')
from ledger.universal_registry as e
join ledger.universal_registry as p
    on p.id = e.policy_id
    and p.seq = 0
    and p.name like 'chaos-%'
left join ledger.universal_registry as s
    on s.id = (e.metadata -> 'engine' -> 'cause' ->> 0)::uuid
    and s.seq = (e.metadata -> 'engine' -> 'cause' ->> 1)::int
where e.entity_type in ('echo', 'mark', 'digest', 'task')
    and e.metadata -> 'engine' ->> 'kind' = 'policy'
    and (
        s.id is null
        or s.tenant_id <> p.tenant_id
        or s.entity_type <> p.metadata -> 'when' ->> 'entity_type'
        or s.visibility = 'private' and s.owner_id <> p.owner_id
    );

-- @ I6 no tenant has more executions in a day than its limit
select format('tenant %s has %s executions on %s, the limit is %s', e.tenant_id, count(*), e.day, m.most)
from (
    select tenant_id, metadata -> 'run' -> 'quota' ->> 'day' as day
    from ledger.universal_registry
    where entity_type in ('execution', 'provider_execution')
        and metadata -> 'run' -> 'quota' ->> 'day' is not null
) as e
cross join (
    select max((metadata -> 'throttle' ->> 'per_tenant_daily_exec_limit')::int) filter (where seq = latest) as most
    from (
        select *, max(seq) over () as latest
        from ledger.universal_registry
        where id = '00000000-0000-4000-8000-0000000000aa'
    ) as versions
) as m
group by e.tenant_id, e.day, m.most
having count(*) > m.most;

-- @ I10 no chain of causes is deeper than sixteen
select format('%s %s has depth %s', entity_type, id, metadata -> 'engine' ->> 'depth')
from ledger.universal_registry
where substr(id::text, 15, 1) = '8'
    and (metadata -> 'engine' ->> 'depth')::int > 16 + (entity_type = 'policy_error')::int;

-- @ I10 a span is one deeper than its cause
select format('%s %s has depth %s, its cause %s', r.entity_type, r.id, r.metadata -> 'engine' ->> 'depth',
    c.metadata -> 'engine' ->> 'depth')
from ledger.universal_registry as r
join ledger.universal_registry as c
    on c.id = (r.metadata -> 'engine' -> 'cause' ->> 0)::uuid
    and c.seq = (r.metadata -> 'engine' -> 'cause' ->> 1)::int
where substr(r.id::text, 15, 1) = '8'
    and r.seq = 0
    and substr(c.id::text, 15, 1) = '8'
    and c.seq = 0
    and (r.metadata -> 'engine' ->> 'depth')::int <= (c.metadata -> 'engine' ->> 'depth')::int;

-- @ I12 no tenant waits for more than three times its share of the others' runs
select format('request %s of %s waited for %s runs of others, its share is %s', w.id, w.tenant_id, w.others, w.share)
from (
    select
        r.id,
        r.tenant_id,
        (
            select count(*)
            from ledger.universal_registry as o
            where o.entity_type = 'execution'
                and o.tenant_id not in (r.tenant_id, 'system')
                and o.accepted_at > r.accepted_at
                and o.accepted_at < e.accepted_at
        ) as others,
        -- In its turn each other tenant runs once for each of its own that stand before it; 64 run already, and
        -- as many wait for their commit.
        128 + (
            select count(*)
            from ledger.universal_registry as o
            where o.entity_type = 'execution'
                and o.tenant_id = r.tenant_id
                and o.accepted_at > r.accepted_at
                and o.accepted_at <= e.accepted_at
        ) * greatest(t.tenants - 1, 1) as share
    from ledger.universal_registry as r
    join ledger.universal_registry as e
        on e.entity_type = 'execution'
        and e.related_to[1] = r.id
        and e.attempt = 1
    cross join (
        select count(distinct tenant_id) as tenants
        from ledger.universal_registry
        where entity_type = 'execution'
    ) as t
    where r.entity_type = 'request'
        and r.seq = 0
        and r.name = 'fair'
) as w
where w.others > 3 * w.share;

-- @ I13 nothing went wrong inside
select format('incident %s about %s: %s', id, parent_id, error)
from ledger.universal_registry
where entity_type = 'incident';

-- @ I13 batches never deadlock
select format('%s deadlocks', deadlocks)
from pg_stat_database
where datname = current_database()
    and deadlocks > 0;
