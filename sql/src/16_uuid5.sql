-- 16 uuid5: the id that a tenant's idempotency key stands for (RFC 9562 §5.5).
--
-- Anybody can compute it with a library of his own: the namespace is the tenant itself where that is a
-- UUID. Postgres has no SHA-1 in its core, and where pgcrypto is, differs: so it is written out here,
-- for names and never for proofs.

create or replace function ledger_private.sha1(p_message bytea)
returns bytea
language plpgsql
immutable
strict
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    c_mask constant bigint := 4294967295;
    v_length constant integer := length(p_message);
    v_padded bytea := p_message || decode('80', 'hex')
        || decode(repeat('00', (119 - v_length % 64) % 64), 'hex')
        || int8send(v_length::bigint * 8);
    v_state bigint[] := array[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
    v_words bigint[];
    v_word bigint;
    a bigint;
    b bigint;
    c bigint;
    d bigint;
    e bigint;
begin
    for v_block in 0 .. length(v_padded) / 64 - 1 loop
        a := v_state[1];
        b := v_state[2];
        c := v_state[3];
        d := v_state[4];
        e := v_state[5];
        for i in 0 .. 79 loop
            if i < 16 then
                v_word := ('x' || encode(
                    substring(v_padded from v_block * 64 + i * 4 + 1 for 4), 'hex'
                ))::bit(32)::bigint & c_mask;
            else
                v_word := v_words[i - 3] # v_words[i - 8] # v_words[i - 14] # v_words[i - 16];
                v_word := ((v_word << 1) | (v_word >> 31)) & c_mask;
            end if;
            v_words[i] := v_word;
            v_word := v_word + e + (((a << 5) | (a >> 27)) & c_mask) + case
                when i < 20 then ((b & c) | (~b & d)) + 1518500249
                when i < 40 then (b # c # d) + 1859775393
                when i < 60 then ((b & c) | (b & d) | (c & d)) + 2400959708
                else (b # c # d) + 3395469782
            end;
            e := d;
            d := c;
            c := ((b << 30) | (b >> 2)) & c_mask;
            b := a;
            a := v_word & c_mask;
        end loop;
        v_state := array[
            v_state[1] + a & c_mask, v_state[2] + b & c_mask, v_state[3] + c & c_mask,
            v_state[4] + d & c_mask, v_state[5] + e & c_mask
        ];
    end loop;
    return substring(int8send(v_state[1]) from 5) || substring(int8send(v_state[2]) from 5)
        || substring(int8send(v_state[3]) from 5) || substring(int8send(v_state[4]) from 5)
        || substring(int8send(v_state[5]) from 5);
end
$$;

comment on function ledger_private.sha1(bytea) is
    'SHA-1 (RFC 3174), 20 bytes. For ids only.';

create or replace function ledger_private.uuid5(p_namespace uuid, p_name text)
returns uuid
language plpgsql
immutable
strict
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bytes bytea := ledger_private.sha1(uuid_send(p_namespace) || convert_to(p_name, 'UTF8'));
begin
    -- Version 5 and the variant take the place of six bits; 16 of the 20 bytes stay.
    v_bytes := set_byte(v_bytes, 6, (get_byte(v_bytes, 6) & 15) | 80);
    v_bytes := set_byte(v_bytes, 8, (get_byte(v_bytes, 8) & 63) | 128);
    return encode(substring(v_bytes from 1 for 16), 'hex')::uuid;
end
$$;

comment on function ledger_private.uuid5(uuid, text) is
    'The version 5 UUID of a name in a namespace; the name in UTF-8.';

create or replace function ledger.idempotency_id(p_tenant_id text, p_key text)
returns uuid
language plpgsql
immutable
strict
parallel safe
security invoker
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A hash costs time: nobody's key is so long (35_shape).
    if char_length(p_tenant_id) > 200 or char_length(p_key) not between 1 and 256 then
        raise exception using
            errcode = 'LL017',
            message = 'the span is malformed: column idempotency_key: 1 to 256 characters',
            hint = 'Shorten idempotency_key, for example to a UUID, and name your own tenant.';
    end if;
    -- Lower case, since tenants are compared as text; not version 5, since those are the namespaces of
    -- the tenants that are no UUID: so no tenant can take a name that gives it another's ids.
    if p_tenant_id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-46-9a-f][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$' then
        return ledger_private.uuid5(p_tenant_id::uuid, p_key);
    end if;
    return ledger_private.uuid5(
        -- UUIDv5 of https://github.com/loglineos/loglineos in the namespace of URLs.
        ledger_private.uuid5('05e24595-4bbb-57e4-810f-6d85f953de6c', p_tenant_id), p_key
    );
end
$$;

comment on function ledger.idempotency_id(text, text) is
    'The id of the span that a tenant''s idempotency_key stands for: UUIDv5(tenant_id, key). The tenant '
    'is the namespace where it is a UUID in lower case, of any version but 5; else the namespace is '
    'UUIDv5(05e24595-4bbb-57e4-810f-6d85f953de6c, tenant_id). Keys are a tenant''s own: two of its '
    'users who state one key mean one span.';

revoke all on function
    ledger_private.sha1(bytea), ledger_private.uuid5(uuid, text), ledger.idempotency_id(text, text)
    from public, anon, authenticated, service_role, loglineos_sidecar, loglineos_kernel;
grant execute on function
    ledger_private.sha1(bytea), ledger_private.uuid5(uuid, text), ledger.idempotency_id(text, text)
    to authenticated, service_role, loglineos_sidecar;
