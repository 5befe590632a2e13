-- 10 identity: who is asking. Everything else asks here.
--
-- Identity is what the API verified and put into request.jwt.claims. A setting is '' and not null
-- once a transaction of a pooled session has used it, hence nullif everywhere. app.user_id and
-- app.tenant_id are believed of the sidecar's own roles only: a client can set any setting.

create or replace function ledger.current_user_id()
returns text
language plpgsql
stable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return nullif(current_setting('app.user_id', true), '');
    end if;
    return nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '');
end
$$;

comment on function ledger.current_user_id() is
    'The caller''s user: the claim sub of the verified token; for the sidecar''s roles app.user_id. '
    'Null without.';

create or replace function ledger.current_tenant_id()
returns text
language plpgsql
stable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_claims jsonb;
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return nullif(current_setting('app.tenant_id', true), '');
    end if;
    -- Never user_metadata: users write that themselves.
    v_claims := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    return coalesce(
        nullif(v_claims -> 'app_metadata' ->> 'tenant_id', ''),
        nullif(v_claims ->> 'tenant_id', '')
    );
end
$$;

comment on function ledger.current_tenant_id() is
    'The caller''s tenant: the claim app_metadata.tenant_id, else tenant_id; for the sidecar''s roles '
    'app.tenant_id. Null without.';

create or replace function ledger.is_governor()
returns boolean
language plpgsql
stable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_user in ('loglineos_sidecar', 'loglineos_kernel') then
        return false;
    end if;
    if nullif(current_setting('request.jwt.claims', true), '')::jsonb
        -> 'app_metadata' ->> 'logline_role' = 'governor'
    then
        return true;
    end if;
    return exists (
        select
        from pg_catalog.pg_class
        where oid = 'ledger.universal_registry'::regclass
            and pg_catalog.pg_get_userbyid(relowner) = current_user
    );
end
$$;

comment on function ledger.is_governor() is
    'Whether the caller has the governing right: the claim app_metadata.logline_role = governor, or '
    'the login that owns the ledger. service_role alone has not.';
