-- 95 version: which LogLineOS this ledger is of. Last: whoever reads it knows that all the rest is there.

create or replace function ledger_private.version()
returns text
language sql
immutable
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
return '@version@';

comment on function ledger_private.version() is
    'The version of this schema. A sidecar that needs a later one refuses to start.';

revoke all on function ledger_private.version()
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function ledger_private.version() to loglineos_sidecar;
