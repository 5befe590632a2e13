/**
 * metrics_retention: a metric that is older than 90 days is archived.
 *
 * @param {import("../kernel").Span} span the tick: one tenant, one day
 * @param {import("../kernel").FunctionCtx} ctx
 */
export default async function on(span, ctx) {
  const { to, limit } = ctx.input.tick;
  const old = await ctx.find(
    {
      entity_type: "metric",
      status: "complete",
      at: { lt: new Date(Date.parse(to) - 90 * 24 * 3_600_000).toISOString() },
    },
    limit,
  );
  const actions = old.map(({ id }) => ({
    version: { id, did: "expired", status: "archived", reason: "retention" },
  }));
  return old.length === limit ? [...actions, { again: true }] : actions;
}
