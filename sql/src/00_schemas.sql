-- 00 schemas: where things live.

create schema if not exists ledger;

comment on schema ledger is
    'The append-only truth of LogLineOS: one table of spans, its views, its accessors. Exposed to clients.';

create schema if not exists engine;

comment on schema engine is
    'Working memory of the sidecar: cursors, leases, counters. Disposable: rebuilt from the ledger. '
    'Never exposed.';

create schema if not exists ledger_private;

comment on schema ledger_private is
    'What views and guards need of the owner''s rights. Never exposed; nothing in it is for clients to '
    'call by name.';

-- Nothing in here is for everybody. What a role gets, it gets by name in 50_access.
revoke all on schema ledger from public;
revoke all on schema ledger_private from public;
revoke all on schema engine from public;
