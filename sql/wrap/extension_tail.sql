-- Tables of an extension are left out of dumps unless they are named here: without this line a
-- logical backup loses the ledger.
select pg_catalog.pg_extension_config_dump('ledger.universal_registry', '');
