-- 10 identity: who is asking. Everything else asks here.
--
-- Identity is what the API verified and put into request.jwt.claims. A setting is '' and not null
-- once a transaction of a pooled session has used it, hence nullif everywhere. app.user_id and
-- app.tenant_id are believed of the sidecar's own roles only: a client can set any setting.
--
-- Claims that are no JSON object, and a sub or tenant_id that is no string or an empty one, are no
-- identity; nothing else is taken in its place. 30_guards and 50_access read the claims themselves,
-- in the same way, because a call costs more than what it does; a test holds them together.

create or replace function ledger_private.claims()
returns jsonb
language plpgsql
stable
-- A block with an exception needs a subtransaction, which Postgres 15 and 16 refuse in a parallel plan.
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
exception
    when data_exception or program_limit_exceeded then
        return null;
end
$$;

comment on function ledger_private.claims() is
    'The claims of the verified token; null without, and where they are not JSON.';

create or replace function ledger.current_user_id()
returns text
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return nullif(current_setting('app.user_id', true), '');
    end if;
    return jsonb_path_query_first(
        ledger_private.claims() -> 'sub', 'strict $ ? (@.type() == "string" && @ != "")'
    ) #>> '{}';
end
$$;

comment on function ledger.current_user_id() is
    'The caller''s user: the claim sub of the verified token; for the sidecar''s roles app.user_id. '
    'Null without.';

create or replace function ledger.current_tenant_id()
returns text
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_claims jsonb;
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return nullif(current_setting('app.tenant_id', true), '');
    end if;
    -- Never user_metadata: users write that themselves. Where app_metadata has a tenant_id, it decides,
    -- also when it is empty: who was taken out of a tenant does not fall into another one.
    v_claims := ledger_private.claims();
    return jsonb_path_query_first(
        coalesce(v_claims #> '{app_metadata,tenant_id}', v_claims -> 'tenant_id'),
        'strict $ ? (@.type() == "string" && @ != "")'
    ) #>> '{}';
end
$$;

comment on function ledger.current_tenant_id() is
    'The caller''s tenant: the claim app_metadata.tenant_id; where app_metadata has none, the claim '
    'tenant_id; for the sidecar''s roles app.tenant_id. Null without.';

create or replace function ledger.is_governor()
returns boolean
language plpgsql
stable
parallel unsafe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return false;
    end if;
    if ledger_private.claims() #> '{app_metadata,logline_role}' = '"governor"' then
        return true;
    end if;
    -- Not who came here through a definer function of the owner's: the role that was set is still in sight.
    return exists (
        select
        from pg_catalog.pg_class
        where oid = 'ledger.universal_registry'::regclass
            and pg_catalog.pg_get_userbyid(relowner) = current_user
            and pg_catalog.pg_has_role(
                coalesce(nullif(current_setting('role', true), 'none'), session_user), relowner, 'usage'
            )
    );
end
$$;

comment on function ledger.is_governor() is
    'Whether the caller has the governing right: the claim app_metadata.logline_role = governor, or '
    'the login that owns the ledger. service_role alone has not.';

revoke all on function ledger_private.claims()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.claims()
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
