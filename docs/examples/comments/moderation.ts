/**
 * comments.moderation: every version of a comment gets a verdict.
 *
 *     comment pending ──► waiting ──moderate──► approved | rejected | needs_review ──a person──► approved | rejected
 *                            └── the provider is down (down.ts): needs_review ──redrive──► as above
 *
 * The verdict is a span of ours: the author of a comment cannot append a version of it.
 */
type Span = import("../../../kernels/kernel").Span;
type Ctx = import("../../../kernels/kernel").FunctionCtx;
type Action = import("../../../kernels/kernel").Action;

const MODERATE = "__MODERATE__"; // install.sql puts the id in

export default async function on(span: Span, ctx: Ctx): Promise<Action[]> {
  if (span.entity_type === "comment") return ask(span, ctx);
  return span.parent_id === MODERATE ? judge(span, ctx) : [];
}

/** A new text begins anew, whatever was decided about the one before. */
function ask(comment: Span, ctx: Ctx): Action[] {
  const text = (comment.content as { text?: unknown } | undefined)?.text;
  const moderation = ctx.bucket(comment.id);
  const verdict = { id: moderation, entity_type: "moderation", parent_id: comment.id, content: { seq: comment.seq } };
  if (typeof text !== "string" || text.length > 10_000) {
    return [{ emit_span: { ...verdict, did: "refused", status: "rejected", reason: "no text of 10,000 letters at most" } }];
  }
  return [
    { emit_span: { ...verdict, did: "received", status: "waiting" } },
    { run: "run_code", span_id: MODERATE, input: { moderation, seq: comment.seq, text } },
  ];
}

async function judge(execution: Span, ctx: Ctx): Promise<Action[]> {
  const { moderation, seq, status, category, score } = execution.output as Record<string, any>;
  const [now] = await ctx.find({ id: moderation, entity_type: "moderation" });
  const isOlder = now === undefined || (now.content as { seq: number }).seq !== seq; // the text has changed since
  if (isOlder || (now.status !== "waiting" && now.did !== "gave up")) return []; // or a person was quicker
  return [{
    version: { id: moderation, did: "judged", status, reason: status === "approved" ? null : `${category} ${score}`,
      content: { seq, category, score } },
  }];
}
