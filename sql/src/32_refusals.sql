-- 32 refusals: what the insert guard (30_guards) says when it refuses.

create or replace function ledger_private.refuse_span(p_code text, p_span ledger.universal_registry)
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = p_code,
        message = case p_code
            when 'LL003' then p_span.entity_type || ' may not get status '
                || coalesce(p_span.status, 'null')
                || case p_span.seq when 0 then ' in version 0' else ' from anyone but the engine' end
            when 'LL004' then p_span.entity_type || ' of tenant ' || p_span.tenant_id
                || ' is not written by this role'
            when 'LL005' then 'the verified token names no user or no tenant, or the span states none'
            when 'LL006' then 'owner_id or tenant_id is not that of the verified token'
            when 'LL007' then 'id ' || p_span.id
                || ' is a system id, a derived (version 8), the nil or the max id, or one (version 5) of '
                'another idempotency_key'
            when 'LL008' then 'who "' || left(p_span.who, 60) || '" is reserved'
            when 'LL009' then 'metadata.engine, policy_id and attempt are written by the engine only'
            when 'LL010' then 'visibility public needs the governing right or a grant of the manifest'
            when 'LL011' then 'at ' || p_span.at || ' is outside -30 days to +5 minutes of now'
            when 'LL014' then 'version 0 states a prev_hash, but nothing is before it'
            when 'LL015' then 'parent_id ' || coalesce(p_span.parent_id::text, 'null')
                || ' is no function that you may call'
            when 'LL016' then 'a span with curr_hash leaves a hashed column to be filled in'
        end,
        hint = case p_code
            when 'LL003' then case
                when p_span.entity_type <> 'request' then
                    'State status draft or active; a function of a tenant may be scheduled, too.'
                when p_span.seq = 0 then 'State status scheduled.'
                else 'Its owner may append cancel_requested, or scheduled after dead.'
            end
            when 'LL004' then 'Manifest, key and the functions, policies and providers of tenant system need '
                'the claim app_metadata.logline_role = governor; what a run leaves behind is written '
                'by the engine: append a request and let it run.'
            when 'LL005' then 'Sign in with a token that carries sub and app_metadata.tenant_id; '
                'service_role, the owner and the engine state owner_id and tenant_id.'
            when 'LL006' then 'Leave owner_id and tenant_id out: they are filled from the token.'
            when 'LL007' then 'Leave id out, or state a version 7 or version 4 UUID, or '
                'ledger.idempotency_id(tenant_id, idempotency_key).'
            when 'LL008' then 'Leave who out, or state user:<your own id> or client:<name>: plain ASCII up to '
                'the colon; system: is for governors.'
            when 'LL009' then 'Leave the key engine out of metadata, and policy_id and attempt out.'
            when 'LL010' then 'State visibility tenant or private.'
            when 'LL011' then 'Leave at out, mend the clock, or keep the old time in metadata.'
            when 'LL014' then 'Leave prev_hash out.'
            when 'LL015' then 'State as parent_id the id of a function that you can read and that is '
                'not archived.'
            when 'LL016' then 'State id, seq, who, at, owner_id, tenant_id, visibility and '
                'is_deleted, or leave curr_hash out.'
        end;
end
$$;

comment on function ledger_private.refuse_span(text, ledger.universal_registry) is
    'Refuses a span by this code, and says why and what to do. For the insert guard.';

revoke all on function ledger_private.refuse_span(text, ledger.universal_registry)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.refuse_span(text, ledger.universal_registry)
    to authenticated, service_role, loglineos_sidecar;
