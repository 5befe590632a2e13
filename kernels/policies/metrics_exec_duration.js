/**
 * metrics_exec_duration: one metric "execution.duration_ms" for each tenant, minute and status.
 *
 * The minute before is counted again: executions that were committed late make a next version of its metric,
 * and where nothing came late nothing is appended.
 *
 * @param {import("../kernel").Span} span the tick: one tenant, one minute
 * @param {import("../kernel").FunctionCtx} ctx
 */
export default async function on(span, ctx) {
  const { from, to } = ctx.input.tick;
  const groups = await ctx.summarize(
    { entity_type: "execution", at: { gte: later(from, -60_000), lt: to } },
    { by: ["status"], bucket: "minute", of: "duration_ms" },
  );
  return groups.map(({ status, bucket, avg, count, sum, min, max, p50, p95, p99 }) => ({
    emit_span: {
      id: ctx.bucket(`execution.duration_ms/${bucket}/${status}`),
      entity_type: "metric",
      did: "recorded",
      this: "execution.duration_ms",
      name: "execution.duration_ms",
      status: "complete",
      at: bucket,
      value: typeof avg === "number" ? avg.toFixed(3) : undefined, // a refused execution has no duration
      unit: "ms",
      ttl_at: later(/** @type {string} */ (bucket), 90 * 24 * 3_600_000),
      metadata: { count, sum, min, max, p50, p95, p99, labels: { tenant: span.tenant_id, kernel: "run_code", status } },
    },
  }));
}

/** @param {string} at @param {number} ms */
function later(at, ms) {
  return new Date(Date.parse(at) + ms).toISOString();
}
