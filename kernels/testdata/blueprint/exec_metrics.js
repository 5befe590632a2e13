// edge:metrics
// Runs for one execution (SPAN_ID). Emits how long it took as a metric, marks it slow when it is over
// the manifest's threshold, and links the two so that a timeline shows them together.
export default async function main(ctx) {
  const { sql, insertSpan, now, crypto, env } = ctx;
  const spanId = globalThis.SPAN_ID;
  if (!spanId) throw new Error("SPAN_ID required");

  async function sign(span) {
    const clone = { ...span };
    delete clone.signature;
    delete clone.curr_hash;
    const message = new TextEncoder().encode(JSON.stringify(clone, Object.keys(clone).sort()));
    const digest = crypto.blake3(message);
    span.curr_hash = crypto.hex(digest);
    if (env.SIGNING_KEY_HEX) {
      span.signature = crypto.hex(await crypto.ed25519.sign(digest, crypto.toU8(env.SIGNING_KEY_HEX)));
    }
    return span;
  }

  const { rows } = await sql`
    SELECT * FROM ledger.visible_timeline
    WHERE id = ${spanId} AND entity_type = 'execution' ORDER BY "when" DESC LIMIT 1`;
  const execution = rows[0];
  if (!execution) return { skipped: true };

  const { rows: manifests } = await sql`
    SELECT metadata FROM ledger.visible_timeline WHERE entity_type = 'manifest' ORDER BY "when" DESC LIMIT 1`;
  const slowMs = Number(manifests[0]?.metadata?.policy?.slow_ms ?? 5000);

  const metricId = crypto.randomUUID();
  await insertSpan(await sign({
    id: metricId,
    seq: 0,
    entity_type: "metric",
    who: "edge:metrics",
    did: "measured",
    this: "execution.duration_ms",
    "when": now(),
    owner_id: env.APP_USER_ID,
    tenant_id: env.APP_TENANT_ID,
    visibility: "tenant",
    parent_id: execution.id,
    related_to: [execution.id, execution.parent_id],
    name: "execution.duration_ms",
    value: execution.duration_ms,
    unit: "ms",
    trace_id: execution.trace_id,
    metadata: { labels: { status: execution.status, kernel: execution.who } },
  }));

  if (execution.status === "complete" && execution.duration_ms >= slowMs) {
    await insertSpan(await sign({
      id: crypto.randomUUID(),
      seq: 0,
      entity_type: "status_patch",
      who: "edge:metrics",
      did: "labeled",
      this: "status=slow",
      at: now(),
      owner_id: execution.owner_id,
      tenant_id: execution.tenant_id,
      visibility: execution.visibility,
      parent_id: metricId,
      related_to: [metricId, execution.id],
      status: "complete",
      metadata: { status: "slow", slow_ms: slowMs },
      trace_id: execution.trace_id,
    }));
  }
  return { metric: metricId, slow: execution.duration_ms >= slowMs };
}
