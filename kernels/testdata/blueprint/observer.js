// edge:observer
// Picks scheduled functions (oldest first, 16 per turn), checks the daily quota of their tenant and
// turns each one into a request for run_code. Tenants over quota get a policy_violation instead.
globalThis.default = async function main(ctx) {
  const { sql, insertSpan, now, crypto, env } = ctx;
  const PER_TURN = 16;
  const DEFAULT_LIMIT = 100;

  function sortedJson(value) {
    if (Array.isArray(value)) return "[" + value.map(sortedJson).join(",") + "]";
    if (value === null || typeof value !== "object") return JSON.stringify(value);
    const parts = Object.keys(value).sort().map((k) => JSON.stringify(k) + ":" + sortedJson(value[k]));
    return "{" + parts.join(",") + "}";
  }

  function sign(span) {
    const clone = structuredClone(span);
    delete clone.signature;
    delete clone.curr_hash;
    const digest = crypto.blake3(new TextEncoder().encode(sortedJson(clone)));
    span.curr_hash = crypto.hex(digest);
    if (env.SIGNING_KEY_HEX) {
      const key = crypto.toU8(env.SIGNING_KEY_HEX);
      span.signature = crypto.hex(crypto.ed25519.sign(digest, key));
      span.public_key = crypto.hex(crypto.ed25519.getPublicKey(key));
    }
    return span;
  }

  async function dailyLimit() {
    const { rows } = await sql`
      SELECT metadata FROM ledger.visible_timeline
      WHERE entity_type = 'manifest' ORDER BY "when" DESC LIMIT 1`;
    const manifest = rows[0]?.metadata || {};
    return Number(manifest.throttle?.per_tenant_daily_exec_limit ?? DEFAULT_LIMIT);
  }

  async function usedToday(tenantId) {
    const { rows } = await sql`
      SELECT count(*)::int AS used FROM ledger.visible_timeline
      WHERE entity_type = 'execution' AND tenant_id = ${tenantId}
        AND "when" >= date_trunc('day', ${now()}::timestamptz)`;
    return rows[0].used;
  }

  const limit = await dailyLimit();
  const { rows: functions } = await sql`
    SELECT id, name, owner_id, tenant_id, visibility FROM ledger.visible_timeline
    WHERE entity_type = 'function' AND status = 'scheduled' AND is_deleted = false
    ORDER BY "when" ASC LIMIT ${PER_TURN}`;

  for (const fn of functions) {
    const base = {
      id: crypto.randomUUID(),
      seq: 0,
      who: "edge:observer",
      at: now(),
      parent_id: fn.id,
      related_to: [fn.id],
      owner_id: fn.owner_id,
      tenant_id: fn.tenant_id,
      visibility: fn.visibility || "private",
      trace_id: crypto.randomUUID(),
      is_deleted: false,
    };
    const used = await usedToday(fn.tenant_id);
    if (used >= limit) {
      await insertSpan(sign({
        ...base,
        entity_type: "policy_violation",
        did: "blocked",
        this: "quota.exec.per_tenant.daily",
        status: "error",
        metadata: { limit, today: used },
      }));
      continue;
    }
    await insertSpan(sign({
      ...base,
      entity_type: "request",
      did: "scheduled",
      this: "run_code",
      status: "scheduled",
    }));
  }
};
