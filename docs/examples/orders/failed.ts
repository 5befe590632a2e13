/**
 * orders.failed: calls a person as soon as an order has failed.
 *
 * A fulfilment fails because the bank says no (pipeline.ts writes that), or because a function has given up: then its
 * request is dead, and the fulfilment is failed from here. There is one escalation for each order.
 */
type Span = import("../../../kernels/kernel").Span;
type Ctx = import("../../../kernels/kernel").FunctionCtx;
type Action = import("../../../kernels/kernel").Action;

// install.sql puts the ids in.
const FUNCTIONS = ["__CHARGE__", "__SHIP__"];

export default async function on(span: Span, ctx: Ctx): Promise<Action[]> {
  if (span.entity_type === "fulfilment") return [escalation(ctx, span, span.reason)];
  if (!FUNCTIONS.includes(span.parent_id as string)) return []; // a request of another function of ours
  const now = await fulfilmentOf(span, ctx);
  if (now === undefined || now.status === "shipped" || now.status === "failed") return [];
  const { id } = now;
  const reason = span.reason ?? `the request ${span.id} has failed`;
  return [{ version: { id, did: "gave up", status: "failed", reason } }, escalation(ctx, now, reason)];
}

/** What caused the request says of which order it was: a dead request does not repeat its input. */
async function fulfilmentOf(request: Span, ctx: Ctx): Promise<Span | undefined> {
  const [cause] = await ctx.find({ id: request.metadata?.trigger_span?.[0] ?? [] });
  if (cause === undefined) return undefined; // asked for by hand: who asked sees it
  const output = cause.output as { fulfilment?: string } | undefined;
  const which = cause.entity_type === "order" ? { parent_id: cause.id } : { id: output?.fulfilment ?? [] };
  return (await ctx.find({ ...which, entity_type: "fulfilment", owner_id: request.owner_id }, 1))[0];
}

function escalation(ctx: Ctx, fulfilment: Span, reason: unknown): Action {
  const order = fulfilment.parent_id as string;
  return {
    emit_span: { id: ctx.bucket(order), entity_type: "escalation", did: "escalated", status: "open", parent_id: order,
      name: fulfilment.name, severity: "high", reason: `failed: ${reason}`, visibility: "private" },
  };
}
