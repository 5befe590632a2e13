-- 50 access: who reads and who appends.
--
-- One policy per role and command. Accessors stand in (select …) so that they run once a statement.
-- A case, not an or: of an or the planner makes a bitmap of everything that the reader may read, and sorts
-- it, whatever the query asks for (docs/plans.md). The same rules stand in ledger_private.is_superseded.
-- A comparison with a missing claim is null, so no claim means no rows; anon has SELECT and no policy,
-- so it reads nothing and is told nothing. Own means owner and tenant: user ids may repeat elsewhere.

alter table ledger.universal_registry enable row level security;
alter table ledger.universal_registry force row level security;

drop policy if exists universal_registry_select_authenticated on ledger.universal_registry;
create policy universal_registry_select_authenticated on ledger.universal_registry
    for select
    to authenticated
    using (
        (select ledger.current_user_id()) is not null
        and case visibility
            when 'tenant' then tenant_id = (select ledger.current_tenant_id())
            when 'public' then true
            else owner_id = (select ledger.current_user_id())
                and tenant_id = (select ledger.current_tenant_id())
        end
    );

comment on policy universal_registry_select_authenticated on ledger.universal_registry is
    'A client reads its own rows, the tenant rows of its tenant, and public rows.';

-- current_user_id and current_tenant_id written out, for a call costs 10 microseconds of each insert, and in
-- one select, for each is an expression tree of its own; offset 0 keeps the claims from being read twice. The
-- trigger before (30_guards) is the stricter one: it has refused claims that are malformed.
drop policy if exists universal_registry_insert_authenticated on ledger.universal_registry;
create policy universal_registry_insert_authenticated on ledger.universal_registry
    for insert
    to authenticated
    with check (
        (owner_id, tenant_id) = (
            select
                token.claims ->> 'sub',
                coalesce(token.claims #>> '{app_metadata,tenant_id}', token.claims ->> 'tenant_id')
            from (
                select nullif(setting.claims, '')::jsonb as claims
                -- Supabase's linter wants to see it right behind a select.
                from (select current_setting('request.jwt.claims', true) as claims) as setting
                offset 0
            ) as token
        )
        or owner_id = 'system' and tenant_id = 'system' and ledger.is_governor()
    );

comment on policy universal_registry_insert_authenticated on ledger.universal_registry is
    'A client appends as itself in its tenant; a governor also as the system.';

drop policy if exists universal_registry_select_service on ledger.universal_registry;
create policy universal_registry_select_service on ledger.universal_registry
    for select
    to service_role
    using (true);

comment on policy universal_registry_select_service on ledger.universal_registry is
    'A backend reads everything (on Supabase by BYPASSRLS, elsewhere by this).';

drop policy if exists universal_registry_insert_service on ledger.universal_registry;
create policy universal_registry_insert_service on ledger.universal_registry
    for insert
    to service_role
    with check (true);

comment on policy universal_registry_insert_service on ledger.universal_registry is
    'A backend appends for any user it states; what it may append, the triggers say.';

drop policy if exists universal_registry_select_sidecar on ledger.universal_registry;
create policy universal_registry_select_sidecar on ledger.universal_registry
    for select
    to loglineos_sidecar
    using (true);

comment on policy universal_registry_select_sidecar on ledger.universal_registry is
    'The engine reads everything.';

drop policy if exists universal_registry_insert_sidecar on ledger.universal_registry;
create policy universal_registry_insert_sidecar on ledger.universal_registry
    for insert
    to loglineos_sidecar
    with check (true);

comment on policy universal_registry_insert_sidecar on ledger.universal_registry is
    'The engine appends for the owner of the cause; what it may append, the triggers say.';

drop policy if exists universal_registry_select_kernel on ledger.universal_registry;
create policy universal_registry_select_kernel on ledger.universal_registry
    for select
    to loglineos_kernel
    using (
        (select ledger.current_user_id()) is not null
        and case visibility
            when 'tenant' then tenant_id = (select ledger.current_tenant_id())
            when 'public' then true
            else owner_id = (select ledger.current_user_id())
                and tenant_id = (select ledger.current_tenant_id())
        end
    );

comment on policy universal_registry_select_kernel on ledger.universal_registry is
    'Ledger code reads what the user reads on whose behalf it runs (app.user_id, app.tenant_id).';

-- Where the owner has neither superuser nor BYPASSRLS, FORCE binds it, and it needs policies to boot
-- the system and to look up the version before. A new owner needs them anew: after a restore under
-- another one, ledger.import_end() asks for them.
create or replace function ledger_private.mend_owner_policies()
returns void
language plpgsql
volatile
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner oid := (select relowner from pg_class where oid = 'ledger.universal_registry'::regclass);
begin
    if (
        select count(*)
        from pg_policy
        where polrelid = 'ledger.universal_registry'::regclass
            and polname in ('universal_registry_select_owner', 'universal_registry_insert_owner')
            and polroles = array[v_owner]
    ) = 2 then
        return;
    end if;
    drop policy if exists universal_registry_select_owner on ledger.universal_registry;
    drop policy if exists universal_registry_insert_owner on ledger.universal_registry;
    execute format(
        'create policy universal_registry_select_owner on ledger.universal_registry'
        ' for select to %I using (true)',
        pg_get_userbyid(v_owner)
    );
    execute format(
        'create policy universal_registry_insert_owner on ledger.universal_registry'
        ' for insert to %I with check (true)',
        pg_get_userbyid(v_owner)
    );
    comment on policy universal_registry_select_owner on ledger.universal_registry is
        'The definer triggers read the version before.';
    comment on policy universal_registry_insert_owner on ledger.universal_registry is
        'The owner boots the system; what it may append, the triggers say.';
end
$$;

comment on function ledger_private.mend_owner_policies() is
    'Gives the ledger''s owner its policies, where they are another''s or missing. For the owner.';

revoke all on function ledger_private.mend_owner_policies()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;

do $owner$
begin
    perform ledger_private.mend_owner_policies();
end
$owner$;

-- Never UPDATE, DELETE, TRUNCATE. Grants that default privileges gave away are taken back first.
revoke all on all tables in schema ledger from public, anon, authenticated, service_role;
revoke all on all tables in schema ledger from loglineos_sidecar, loglineos_kernel;
revoke all on all functions in schema ledger from public, anon, authenticated, service_role;

grant usage on schema ledger, ledger_private
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant select on ledger.universal_registry
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant insert on ledger.universal_registry
    to authenticated, service_role, loglineos_sidecar;

grant execute on function ledger.current_user_id(), ledger.current_tenant_id(), ledger.is_governor()
    to anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger.uuid7(), ledger.idempotency_id(text, text)
    to authenticated, service_role, loglineos_sidecar;
grant execute on function ledger.may_follow(text, text, text, text, boolean)
    to authenticated, service_role, loglineos_sidecar;

-- The sidecar keeps its own tables here.
grant usage, create on schema engine to loglineos_sidecar;
