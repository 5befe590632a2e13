-- 70 indexes: few, for each insert pays for each one (3 to 4 microseconds a row; docs/plans.md). GIN indexes
-- are the user's own choice.

create index if not exists universal_registry_tenant_type_at_idx
    on ledger.universal_registry (tenant_id, entity_type, at desc);

comment on index ledger.universal_registry_tenant_type_at_idx is
    'The timeline of a tenant, by type, newest first; function_state.';

create index if not exists universal_registry_tenant_at_idx
    on ledger.universal_registry (tenant_id, at desc);

comment on index ledger.universal_registry_tenant_at_idx is
    'The timeline of a tenant, all types, newest first.';

-- Of whom nothing is asked but the newest: the walk ends when the page is full of what the reader may see. Who may
-- see little walks far, but never sorts the ledger. Branches of a union for each way to be readable would serve
-- him better and everybody else worse (docs/plans.md).
create index if not exists universal_registry_at_idx
    on ledger.universal_registry (at desc);

comment on index ledger.universal_registry_at_idx is
    'A page of everything that the reader may see, newest first.';

-- Where a tenant has many users, most rows of it are hidden from each.
create index if not exists universal_registry_owner_at_idx
    on ledger.universal_registry (owner_id, at desc);

comment on index ledger.universal_registry_owner_at_idx is
    'The timeline of a user, newest first; as_of.';

create index if not exists universal_registry_shared_at_idx
    on ledger.universal_registry (tenant_id, at desc)
    where visibility = 'tenant';

comment on index ledger.universal_registry_shared_at_idx is
    'What a tenant shares, newest first; as_of.';

create index if not exists universal_registry_public_at_idx
    on ledger.universal_registry (at desc)
    where visibility = 'public';

comment on index ledger.universal_registry_public_at_idx is
    'What is public, newest first; as_of.';

create index if not exists universal_registry_ttl_idx
    on ledger.universal_registry (tenant_id, ttl_at)
    where ttl_at is not null;

comment on index ledger.universal_registry_ttl_idx is
    'What ends when, by tenant: the ttl_reaper.';

-- With the type: of a function with a million open requests the last execution is behind all of them.
create index if not exists universal_registry_parent_owner_idx
    on ledger.universal_registry (parent_id, owner_id, entity_type, accepted_at desc)
    where parent_id is not null;

comment on index ledger.universal_registry_parent_owner_idx is
    'Requests or executions of a function, of one caller, newest first; function_state, result.';

create index if not exists universal_registry_trace_idx
    on ledger.universal_registry (trace_id)
    where trace_id is not null;

comment on index ledger.universal_registry_trace_idx is
    'All spans of one flow.';

create index if not exists universal_registry_xact_idx
    on ledger.universal_registry (xact);

comment on index ledger.universal_registry_xact_idx is
    'Catch-up: what a snapshot had not seen.';

-- Open work, in two kinds. What was ever open is in here for ever: the reader passes over what has a version
-- after it, and marks keep it from beginning at the beginning (sidecar/ledger/open.go, which repeats the
-- conditions word for word).
create index if not exists universal_registry_open_idx
    on ledger.universal_registry (tenant_id, xact, id)
    where entity_type = 'request'
        and status in ('scheduled', 'running', 'retry', 'blocked', 'cancel_requested')
        and (
            scheduled_at is null
            or scheduled_at <= accepted_at
            or status in ('running', 'cancel_requested')
        );

comment on index ledger.universal_registry_open_idx is
    'Requests that may run, of a tenant, in the order of their transactions.';

create index if not exists universal_registry_due_idx
    on ledger.universal_registry (scheduled_at, id)
    where entity_type = 'request'
        and status in ('scheduled', 'retry', 'blocked')
        and scheduled_at > accepted_at;

comment on index ledger.universal_registry_due_idx is
    'Requests that were delayed, of all tenants, by when they are due.';

create index if not exists universal_registry_schedule_idx
    on ledger.universal_registry (id, seq)
    where entity_type = 'function'
        and metadata ? 'schedule';

comment on index ledger.universal_registry_schedule_idx is
    'Functions that recur: read when a sidecar takes over.';

create index if not exists universal_registry_policy_idx
    on ledger.universal_registry (id, seq)
    where entity_type = 'policy';

comment on index ledger.universal_registry_policy_idx is
    'The policies that a new leader goes by.';

-- A statement that an API has prepared is planned for any user, that is for the average one, who has few rows:
-- fetch all, then sort. For the busiest one that is a second a page. So the planner is to believe (from the
-- next analyze on) that there are few users and tenants, with many rows each; then it walks the index in order.
alter table ledger.universal_registry
    alter column owner_id set (n_distinct = 200),
    alter column tenant_id set (n_distinct = 200);
