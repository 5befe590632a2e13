/**
 * slow_exec: an execution that took longer than the manifest's policy.slow_ms has one mark "slow".
 *
 * run_code marks what it runs. This marks what it did not: what was refused a mark by a fault, or came by
 * another kernel. The mark's id is the execution's, so there is never a second one.
 *
 * @param {import("../kernel").Span} span the tick: one owner, one minute
 * @param {import("../kernel").FunctionCtx} ctx
 */
export default async function on(span, ctx) {
  const { from, to, limit } = ctx.input.tick;
  const slowMs = ctx.manifest.policy.slow_ms;
  const slow = await ctx.find(
    {
      entity_type: "execution",
      status: "complete",
      owner_id: span.owner_id,
      duration_ms: { gt: slowMs },
      at: { gte: earlier(from, 60_000), lt: to },
    },
    1000,
  );
  if (slow.length === 0) return [];
  const marks = await ctx.find(
    { entity_type: "status_patch", this: "status=slow", parent_id: slow.map((execution) => execution.id) },
    1000,
  );
  const left = slow.filter((execution) => !marks.some((mark) => mark.parent_id === execution.id));
  const actions = left.slice(0, limit).map((execution) => ({
    emit_span: {
      id: ctx.bucket(`slow/${execution.id}`),
      entity_type: "status_patch",
      did: "labeled",
      this: "status=slow",
      status: "complete",
      parent_id: execution.id,
      trace_id: execution.trace_id,
      duration_ms: execution.duration_ms,
      metadata: { status: "slow", slow_ms: slowMs },
    },
  }));
  return left.length > limit ? [...actions, { again: true }] : actions;
}

/** @param {string} at @param {number} ms */
function earlier(at, ms) {
  return new Date(Date.parse(at) - ms).toISOString();
}
