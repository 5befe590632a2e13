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
