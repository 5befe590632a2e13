-- The table of the reference implementation with what its database has after some use: 29 columns, requests that
-- never left scheduled, a tombstone, versions with a gap, rows of nobody, hashes.
create schema ledger;
create table ledger.universal_registry (
    id uuid not null, seq integer not null default 0, entity_type text not null, who text not null, did text,
    this text not null, at timestamptz not null default now(), parent_id uuid, related_to uuid[], owner_id text,
    tenant_id text, visibility text not null default 'private', status text, is_deleted boolean not null default false,
    name text, description text, code text, language text, runtime text, input jsonb, output jsonb, error jsonb,
    duration_ms integer, trace_id text, prev_hash text, curr_hash text, signature text, public_key text, metadata jsonb,
    primary key (id, seq));
insert into ledger.universal_registry (id, seq, entity_type, who, did, this, owner_id, tenant_id, visibility, status,
    name, code, language, runtime, input, output, is_deleted, parent_id, curr_hash, metadata, at) values
('00000000-0000-4000-8000-000000000001', 0, 'function', 'system:seed', 'defined', 'function', 'system', 'system', 'public',
    'active', 'run_code_kernel', 'export default 1', 'javascript', 'deno@1.x', null, null, false, null, 'aa', null, '2025-01-02'),
('00000000-0000-4000-8000-0000000000aa', 0, 'manifest', 'system', 'defined', 'manifest', 'system', 'system', 'public',
    'active', 'kernel_manifest_v1', null, null, null, null, null, false, null, null, '{"kernels": {}}', '2025-01-02'),
('a0000000-0000-4000-a000-000000000001', 0, 'function', 'user:alice', 'defined', 'function', 'alice', 'acme', 'tenant',
    'scheduled', 'double', 'return { twice: input.n * 2 }', 'javascript', 'deno@1.x', '{"n": 21}', null, false, null, 'bb',
    '{"reference": "RFC 1"}', '2025-03-04 05:06:07.123456+00'),
('a0000000-0000-4000-a000-000000000002', 0, 'request', 'edge:observer', 'scheduled', 'run_code', 'alice', 'acme', 'private',
    'scheduled', null, null, null, null, null, null, false, 'a0000000-0000-4000-a000-000000000001', null, null, '2025-03-04'),
('a0000000-0000-4000-a000-000000000003', 0, 'execution', 'kernel:run_code', 'executed', 'run_code', 'alice', 'acme', 'private',
    'complete', null, null, null, null, '{"n": 21}', '{"twice": 42}', false, 'a0000000-0000-4000-a000-000000000001', null, null, '2025-03-04'),
('a0000000-0000-4000-a000-000000000004', 0, 'note', 'user:bob', null, 'note', 'bob', 'globex', 'private',
    null, 'gone', null, null, null, null, null, false, null, null, null, '2025-03-04'),
('a0000000-0000-4000-a000-000000000004', 7, 'note', 'user:bob', null, 'note', 'bob', 'globex', 'private',
    null, 'gone', null, null, null, null, null, true, null, null, null, '2025-03-05'),
('a0000000-0000-4000-a000-000000000005', 0, 'note', 'edge:api', null, 'note', null, null, 'public',
    null, 'of nobody', null, null, null, null, null, false, null, null, null, '2099-01-01');
-- What somebody planted there, whose API let everybody state all of it; and what looks like it, and is honest.
insert into ledger.universal_registry (id, seq, entity_type, who, did, this, owner_id, tenant_id, visibility, status,
    name, code, language, metadata, at) values
('f0000000-0000-4000-a000-000000000001', 0, 'policy', 'system:bootstrap', 'defined', 'policy', 'system', 'system', 'public',
    'active', 'planted', 'function on(span) { return [{ emit_span: { entity_type: "alert", name: "planted" } }]; }',
    'javascript', '{"when": {"entity_type": "note"}}', '2025-03-04'),
('f0000000-0000-4000-a000-000000000002', 0, 'policy', 'user:bob', 'defined', 'policy', 'alice', 'acme', 'public',
    'draft', 'lent', '', 'javascript', '{"when": {"entity_type": "note"}}', '2025-03-04'),
('f0000000-0000-4000-a000-000000000002', 1, 'policy', 'user:bob', 'defined', 'policy', 'alice', 'acme', 'public',
    'active', 'lent', 'function on(span) { return [{ emit_span: { entity_type: "alert", name: "lent" } }]; }',
    'javascript', '{"when": {"entity_type": "note"}}', '2025-03-04'),
('f0000000-0000-4000-a000-000000000003', 0, 'function', 'system:bootstrap', 'defined', 'function', 'alice', 'system', 'public',
    'scheduled', 'planted', 'return 1', 'javascript', '{"schedule": {"cron": "* * * * *"}}', '2025-03-04'),
('f0000000-0000-4000-a000-000000000004', 0, 'key', 'system', 'defined', 'key', 'system', 'system', 'public',
    'active', 'planted', null, null, '{"purposes": ["function"]}', '2025-03-04'),
('f0000000-0000-4000-a000-000000000005', 0, 'incident', 'system', 'manifest refused', 'incident', 'system', 'system', 'public',
    null, 'planted', null, null, '{"engine": {"cause": ["00000000-0000-4000-8000-0000000000aa", 0]}}', '2025-03-04'),
('f0000000-0000-8000-a000-000000000006', 0, 'note', 'user:bob', null, 'note', 'bob', 'globex', 'private',
    null, 'in the place of another', null, null, '{}', '2025-03-04'),
('f0000000-0000-4000-a000-000000000007', 0, 'function', 'user:alice', 'defined', 'function', 'alice', 'acme', 'tenant',
    'active', 'recurring', 'return 1', 'javascript', '{"schedule": {"cron": "* * * * *"}, "mine": 1}', '2025-03-04');
