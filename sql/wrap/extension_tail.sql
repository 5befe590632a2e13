-- Tables of an extension are left out of dumps unless they are named here: without this line a
-- logical backup loses the ledger.
select pg_catalog.pg_extension_config_dump('ledger.universal_registry', '');

-- The triggers are there before the rows of a dump: they come in through the import door, and the
-- owner closes it with: select ledger.import_end()
do $restore$
begin
    if pg_catalog.current_setting('loglineos.restoring') = 'on' then
        perform ledger.import_begin();
    else
        perform ledger_private.lock_extension();
    end if;
end
$restore$;
