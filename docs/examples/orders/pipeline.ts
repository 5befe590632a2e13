/**
 * orders.pipeline: moves the fulfilment of an order from state to state.
 *
 *     order placed ──► received ──charge──► charged ──ship──► shipped
 *                         └► failed            └► waiting (no stock) ──ship, again──► shipped
 *
 * The order is its customer's and stays as he wrote it. The fulfilment is ours: nobody else can append a
 * version of it. The functions do the work, and are tried again by themselves; this decides what follows. A function
 * that gives up is seen by failed.ts: a policy is not shown the requests that it made.
 */
type Span = import("../../../kernels/kernel").Span;
type Ctx = import("../../../kernels/kernel").FunctionCtx;
type Action = import("../../../kernels/kernel").Action;

// install.sql puts the ids in.
const CHARGE = "__CHARGE__";
const SHIP = "__SHIP__";

export default async function on(span: Span, ctx: Ctx): Promise<Action[]> {
  if (span.entity_type === "order") return receive(span, ctx);
  const isOurs = span.parent_id === CHARGE || span.parent_id === SHIP;
  return isOurs ? proceed(span, ctx) : [];
}

/** An order is charged once: a later version of it changes nothing here. */
function receive(order: Span, ctx: Ctx): Action[] {
  if (order.seq > 0) return [];
  const fulfilment = ctx.bucket(order.id);
  const { item, quantity, card } = (order.content ?? {}) as Record<string, unknown>;
  return [
    {
      emit_span: { id: fulfilment, entity_type: "fulfilment", did: "received", status: "received", name: order.name,
        parent_id: order.id, content: { item, quantity } },
    },
    { run: "run_code", span_id: CHARGE, input: { fulfilment, item, quantity, card } },
  ];
}

/** A function has ended well: its output says what is next. */
async function proceed(execution: Span, ctx: Ctx): Promise<Action[]> {
  const output = execution.output as Record<string, string | number>;
  const [now] = await ctx.find({ id: String(output.fulfilment), entity_type: "fulfilment" });
  if (now === undefined || now.status === "shipped") return [];
  const content = { ...(now.content as object), ...output, fulfilment: undefined };
  const next = (status: string, reason?: string | number): Action => ({
    version: { id: now.id, did: "moved", status, reason: reason ?? null, content },
  });
  if (output.declined) return [next("failed", output.declined)];
  if (output.waiting) return [next("waiting", output.waiting)];
  if (execution.parent_id === SHIP) return [next("shipped")];
  const { item } = now.content as { item: string };
  return [next("charged"), { run: "run_code", span_id: SHIP, input: { fulfilment: now.id, item } }];
}
