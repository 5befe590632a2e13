-- What a Supabase project has before the first migration, as far as the ledger can meet it: the
-- roles with their attributes, memberships and settings, the schemas, the default privileges.
-- After supabase/postgres (migrations, init scripts) as of October 2026. Run by supabase_admin, the bootstrap superuser; what
-- only its image has (supautils, GoTrue, Realtime) is not here.

create role postgres nosuperuser createdb createrole login replication bypassrls password 'postgres';
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit password 'authenticator';
create role supabase_auth_admin nosuperuser noinherit createrole login password 'auth';
create role supabase_storage_admin nosuperuser noinherit createrole login password 'storage';
create role supabase_realtime_admin nosuperuser noinherit nologin;
create role supabase_replication_admin login replication password 'replication';
create role supabase_read_only_user login bypassrls password 'read';
create role dashboard_user nosuperuser createdb createrole replication;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to postgres with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
grant pg_read_all_data to supabase_read_only_user;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';

do $database$
begin
    execute format('alter database %I owner to postgres', current_database());
    execute format('alter database %I set search_path = "$user", public, extensions', current_database());
end
$database$;

create schema extensions;
grant usage on schema extensions to postgres, anon, authenticated, service_role;
grant create on schema extensions to postgres;
create extension pgcrypto with schema extensions;
create extension "uuid-ossp" with schema extensions;

create schema auth authorization supabase_auth_admin;
grant usage on schema auth to postgres, anon, authenticated, service_role;
create table auth.users (
    id uuid primary key,
    email text,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb
);
alter table auth.users owner to supabase_auth_admin;
grant select, insert, update, delete, references, trigger on auth.users to postgres;

create or replace function auth.uid()
returns uuid
language sql
stable
as $$
    select nullif(
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', ''
    )::uuid
$$;

create or replace function auth.jwt()
returns jsonb
language sql
stable
as $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

alter function auth.uid() owner to supabase_auth_admin;
alter function auth.jwt() owner to supabase_auth_admin;

create publication supabase_realtime;
alter publication supabase_realtime owner to postgres;

-- Default privileges as they are since 2026-10-30: of what postgres makes in public, the API roles
-- get TRUNCATE, REFERENCES and TRIGGER, and functions stay executable by everybody.
grant usage on schema public to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
    grant truncate, references, trigger on tables to anon, authenticated, service_role;

-- Read by PostgREST; `supabase db advisors` takes the exposed schemas from config.toml instead.
alter role authenticator set pgrst.db_schemas = 'public, graphql_public';
