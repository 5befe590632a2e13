-- LogLineOS @version@ as an extension.
-- Generated from sql/src by scripts/sqlbuild. Do not edit.
\echo Use "create extension loglineos" to load this file. \quit

do $guard$
begin
    if to_regclass('ledger.universal_registry') is not null then
        raise exception using
            message = 'this database has a ledger already, by migrations or pasted',
            hint = 'Stay with them: logline migrate (or supabase db push, or paste the new file) upgrades it. '
                'One form does not become another.';
    end if;
end
$guard$;

-- What pg_dump writes, read by pg_restore or psql, runs with row_security off. Then rows come next, and
-- what is no member of the extension comes from the dump, too.
select pg_catalog.set_config(
    'loglineos.restoring',
    case
        when pg_catalog.current_setting('row_security') = 'off'
            or pg_catalog.current_setting('application_name') = 'pg_restore'
            then 'on'
        else 'off'
    end,
    true
);

