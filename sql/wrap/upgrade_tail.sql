select ledger_private.lock_extension();
