-- Breaks nothing; locks auth.users for a moment, for a foreign key to it. Optional, and no part of the ledger: the
-- tenant of each user in a table of yours, put into each new token as the claim `tenant_id` by a custom access token
-- hook of Supabase Auth. Without it an administrator sets app_metadata.tenant_id of each user. How to install and
-- enable: docs/supabase.md.
--
-- Who may write public.tenant_member chooses tenants. Clients may not even read it.

create table public.tenant_member (
    user_id uuid primary key references auth.users on delete cascade,
    tenant_id text not null,
    is_blocked boolean not null default false,
    constraint tenant_member_tenant_id_check check (
        char_length(tenant_id) between 1 and 200 and tenant_id <> 'system'
    )
);

comment on table public.tenant_member is
    'The tenant of each user. Supabase Auth reads it when it makes a token; a change counts from the next one on.';
comment on column public.tenant_member.is_blocked is
    'True: no more tokens. The one that the user has is good until it expires, an hour by default.';

alter table public.tenant_member enable row level security;

create policy tenant_member_select_auth on public.tenant_member
    for select to supabase_auth_admin
    using (true);

revoke all on public.tenant_member from anon, authenticated;
grant select, insert, update, delete on public.tenant_member to service_role;
grant select on public.tenant_member to supabase_auth_admin;
grant usage on schema public to supabase_auth_admin;

-- Supabase Auth calls it with {user_id, claims, authentication_method}, as supabase_auth_admin, each time that it
-- makes a token, also when it renews one. The answer is the event with other claims, or {error}, which ends the
-- sign-in. It must not fail: then nobody could sign in.
create function public.tenant_claim(event jsonb)
returns jsonb
language plpgsql
stable
security invoker
set search_path = ''
as $$
declare
    v_user_id text := event ->> 'user_id';
    v_member public.tenant_member;
begin
    if v_user_id is null or v_user_id !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
        return event;
    end if;
    select m.*
    into v_member
    from public.tenant_member as m
    where m.user_id = v_user_id::uuid;
    if not found then
        return event;
    end if;
    if v_member.is_blocked then
        return jsonb_build_object('error', jsonb_build_object(
            'http_code', 403,
            'message', 'this account is blocked: ask the administrator of your tenant'
        ));
    end if;
    return jsonb_set(event, '{claims,tenant_id}', to_jsonb(v_member.tenant_id));
end
$$;

comment on function public.tenant_claim(jsonb) is
    'Custom access token hook: adds the claim tenant_id of public.tenant_member, refuses who is blocked, and leaves '
    'others as they are. Where app_metadata has a tenant_id, too, the ledger goes by that.';

revoke all on function public.tenant_claim(jsonb) from public, anon, authenticated, service_role;
grant execute on function public.tenant_claim(jsonb) to supabase_auth_admin;
