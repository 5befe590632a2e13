-- LogLineOS @version@: paste this whole file into a SQL editor and run it, once.
-- Generated from sql/src by scripts/sqlbuild. Do not edit.

begin;

do $guard$
begin
    if to_regclass('ledger.universal_registry') is not null then
        raise exception using
            message = 'this database has a ledger already',
            hint = 'Nothing to do. Later versions come as migrations.';
    end if;
end
$guard$;

