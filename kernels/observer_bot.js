/**
 * observer_bot: a function version with status "scheduled" becomes one request.
 *
 * The request's id is derived from the function version, so however often the same version is seen
 * (redelivery, a second sidecar, a catch-up), there is one request.
 *
 * @param {import("./kernel").Ctx} ctx batch: spans that matched this kernel's trigger
 */
export default async function main(ctx) {
  for (const span of ctx.batch) {
    if (span.entity_type !== "function" || span.status !== "scheduled" || span.is_deleted) continue;
    ctx.insertSpan(
      {
        entity_type: "request",
        did: "scheduled",
        this: "run_code",
        status: "scheduled",
        parent_id: span.id,
        related_to: [span.id],
        trace_id: span.trace_id,
        scheduled_at: span.scheduled_at,
        metadata: { function: { id: span.id, seq: span.seq } },
      },
      { cause: { id: span.id, seq: span.seq } },
    );
  }
}
