/**
 * comments.down: the provider has not answered, three times. A person may decide then; a redrive asks again.
 *
 * A policy is not shown the requests that it made, so this is one of its own.
 */
type Span = import("../../../kernels/kernel").Span;
type Ctx = import("../../../kernels/kernel").FunctionCtx;
type Action = import("../../../kernels/kernel").Action;

const MODERATE = "__MODERATE__"; // install.sql puts the id in

export default async function on(request: Span, ctx: Ctx): Promise<Action[]> {
  const [comment, seq] = request.metadata?.trigger_span ?? []; // a dead request does not repeat its input
  if (request.parent_id !== MODERATE || comment === undefined) return [];
  const [now] = await ctx.find({ entity_type: "moderation", parent_id: comment, owner_id: request.owner_id }, 1);
  if (now?.status !== "waiting" || (now.content as { seq: number }).seq !== seq) return [];
  return [{ version: { id: now.id, did: "gave up", status: "needs_review", reason: `not asked: ${request.reason}` } }];
}
