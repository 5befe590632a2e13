/**
 * ttl_reaper: a prompt_block or memory past its ttl_at is archived.
 *
 * @param {import("../kernel").Span} span the tick: one tenant, one minute
 * @param {import("../kernel").FunctionCtx} ctx
 */
export default async function on(span, ctx) {
  const { to, limit } = ctx.input.tick;
  const expired = await ctx.find(
    { entity_type: ["prompt_block", "memory"], status: "active", ttl_at: { lt: to } },
    limit,
  );
  const actions = expired.map(({ id }) => ({
    version: { id, did: "expired", status: "archived", reason: "ttl" },
  }));
  return expired.length === limit ? [...actions, { again: true }] : actions;
}
