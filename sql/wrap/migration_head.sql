-- LogLineOS 0.1.0: the ledger. Makes new objects only: breaks nothing, locks nothing.
-- Generated from sql/src by scripts/sqlbuild. Do not edit.

