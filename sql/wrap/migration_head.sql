-- LogLineOS @version@: brings a ledger of the version before, or an empty database after it, to this one.
-- Rewrites no row. Locks: the ledger for as long as it runs, a second or so, but for an index that is new.
-- Generated from sql/src by scripts/sqlbuild. Do not edit.

