/**
 * orders.overdue: calls a person where an order does not get on.
 *
 * Each minute: an order that is neither shipped nor failed after LATE is escalated, and made critical after three times
 * as long; what is shipped after all is closed. There is one escalation for each order; once its owner has given it
 * another status than open, it is his.
 */
type Span = import("../../../kernels/kernel").Span;
type Ctx = import("../../../kernels/kernel").FunctionCtx;
type Action = import("../../../kernels/kernel").Action;

const MINUTE = 60_000;
const LATE = 5 * MINUTE;
const FORGOTTEN = 24 * 60 * MINUTE; // older ones have been escalated long ago

export default async function on(span: Span, ctx: Ctx): Promise<Action[]> {
  const { round, limit } = ctx.input.tick;
  const to = Date.parse(ctx.input.tick.to);
  const time = (ago: number) => new Date(to - ago).toISOString();
  const orders = await ctx.find(
    { entity_type: "order", status: "placed", at: { gte: time(FORGOTTEN), lt: time(LATE) } }, 1000);
  const known = await ctx.find(
    { entity_type: "escalation", owner_id: span.owner_id, policy_id: span.policy_id as string }, 1000);
  const ids = [...new Set([...orders, ...known.map((e) => ({ id: e.parent_id as string }))].map((o) => o.id))];
  const found = await ctx.find({ entity_type: "fulfilment", owner_id: span.owner_id, parent_id: ids }, 1000);
  const states = new Map(found.map((f) => [f.parent_id, f]));

  const actions: Action[] = [];
  for (const order of orders) {
    const state = states.get(order.id);
    const before = known.find((e) => e.parent_id === order.id);
    if (state?.status === "shipped" || state?.status === "failed") continue;
    if (before !== undefined && before.status !== "open") continue;
    const severity = to - Date.parse(order.at) > 3 * LATE ? "critical" : "high";
    const reason = `${state?.status ?? "not received"} for too long${state?.reason ? `: ${state.reason}` : ""}`;
    actions.push({
      emit_span: { id: ctx.bucket(order.id), entity_type: "escalation", did: "escalated", status: "open",
        parent_id: order.id, name: order.name, severity, reason },
    });
  }
  for (const { id, parent_id } of known.filter((e) => e.status === "open")) {
    if (states.get(parent_id)?.status === "shipped") actions.push({ version: { id, status: "closed", reason: "shipped" } });
  }
  const turn = actions.slice(round * limit, (round + 1) * limit);
  return actions.length > (round + 1) * limit ? [...turn, { again: true }] : turn;
}
