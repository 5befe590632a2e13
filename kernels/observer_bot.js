/**
 * observer_bot: a function version with status "scheduled" becomes one request, and so does each tick of a
 * function that recurs (metadata.schedule).
 *
 * The request's id is derived, from the function version or from the function and the time of the tick. So
 * however often the same version or tick is seen (redelivery, a second sidecar, a catch-up), there is one request.
 * A tick that this kernel makes nothing of is skipped.
 *
 * @param {import("./kernel").Ctx} ctx batch: spans that matched this kernel's trigger, or ticks
 */
export default async function main(ctx) {
  for (const span of ctx.batch) {
    const isTick = span.entity_type === "tick";
    if (!isTick && span.entity_type !== "function") continue;
    if (span.status !== "scheduled" || span.is_deleted) continue;
    const { function: ticking, tick } = span.metadata || {};
    const of = isTick ? ticking : { id: span.id, seq: span.seq };
    ctx.insertSpan(
      {
        entity_type: "request",
        did: "scheduled",
        this: "run_code",
        status: "scheduled",
        parent_id: of.id,
        related_to: [of.id],
        trace_id: span.trace_id,
        scheduled_at: span.scheduled_at,
        input: isTick ? span.input : undefined,
        metadata: isTick ? { function: of, tick } : { function: of },
      },
      { cause: { id: span.id, seq: span.seq } },
    );
  }
}
