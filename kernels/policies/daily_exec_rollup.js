/**
 * daily_exec_rollup: one metric "execution.count" for each day, owner and status.
 *
 * Each hour in which the owner had executions counts the day so far: a next version where the count has
 * grown. The first hour of a day counts the day before once more.
 *
 * @param {import("../kernel").Span} span the tick: one owner, one hour
 * @param {import("../kernel").FunctionCtx} ctx
 */
export default async function on(span, ctx) {
  const { from, to } = ctx.input.tick;
  const days = [...new Set([later(from, -3_600_000).slice(0, 10), from.slice(0, 10)])];
  const actions = [];
  for (const day of days) {
    const start = `${day}T00:00:00.000Z`;
    const end = later(start, 24 * 3_600_000);
    const groups = await ctx.summarize(
      { entity_type: "execution", owner_id: span.owner_id, at: { gte: start, lt: end } },
      { by: ["status"] },
    );
    for (const { status, count } of groups) {
      actions.push({
        emit_span: {
          id: ctx.bucket(`execution.count/${day}/${status}`),
          entity_type: "metric",
          did: "recorded",
          this: "execution.count",
          name: "execution.count",
          status: "complete",
          at: start,
          value: String(count),
          unit: "1",
          ttl_at: later(start, 90 * 24 * 3_600_000),
          metadata: {
            date: day,
            is_final: Date.parse(to) >= Date.parse(end),
            labels: { tenant: span.tenant_id, owner: span.owner_id, status },
          },
        },
      });
    }
  }
  return actions;
}

/** @param {string} at @param {number} ms */
function later(at, ms) {
  return new Date(Date.parse(at) + ms).toISOString();
}
