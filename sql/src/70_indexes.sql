-- 70 indexes: few, for each insert pays for each one. GIN indexes are the user's own choice.

create index if not exists universal_registry_tenant_type_at_idx
    on ledger.universal_registry (tenant_id, entity_type, at desc);

comment on index ledger.universal_registry_tenant_type_at_idx is
    'The timeline of a tenant, by type, newest first.';

create index if not exists universal_registry_parent_idx
    on ledger.universal_registry (parent_id)
    where parent_id is not null;

comment on index ledger.universal_registry_parent_idx is
    'Requests and executions of a function.';

create index if not exists universal_registry_trace_idx
    on ledger.universal_registry (trace_id)
    where trace_id is not null;

comment on index ledger.universal_registry_trace_idx is
    'All spans of one flow.';

create index if not exists universal_registry_xact_idx
    on ledger.universal_registry (xact);

comment on index ledger.universal_registry_xact_idx is
    'Catch-up: what a snapshot had not seen.';

-- Every version that was ever open is in here: the scan leaves out those that have a version after
-- them, an anti-join with the primary key on (id, seq + 1) in the same order. Ids begin with a time,
-- so a scan may also begin at one.
create index if not exists universal_registry_open_request_idx
    on ledger.universal_registry (id, seq)
    where entity_type = 'request'
        and status in ('scheduled', 'running', 'retry', 'blocked', 'cancel_requested');

comment on index ledger.universal_registry_open_request_idx is
    'Open work at start-up, and after an overflow.';
