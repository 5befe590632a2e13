/**
 * comments.moderate: asks the provider what a text is worth.
 *
 * The key never comes here: the sidecar fills {{OPENAI_API_KEY}} in, for the one host that it is bound to, and takes
 * it out of whatever the host sends back. What fails is thrown, and tried again (metadata.retry).
 */
type Ctx = import("../../../kernels/kernel").FunctionCtx;

const REJECT = 0.8; // at least one category with so much
const APPROVE = 0.3; // none with more

export default async function main(ctx: Ctx) {
  const { moderation, seq, text } = ctx.input as { moderation: string; seq: number; text: string };
  const answer = await ctx.fetch("__PROVIDER__/v1/moderations", { // install.sql puts the host in
    method: "POST",
    headers: { authorization: "Bearer {{OPENAI_API_KEY}}" },
    body: { model: "omni-moderation-latest", input: text },
    timeout_ms: 10_000,
  });
  if (!answer.ok) throw new Error(`the provider answered ${answer.status}`);
  const scores = Object.entries<number>((await answer.json()).results?.[0]?.category_scores ?? {});
  if (scores.length === 0) throw new Error("the provider answered without scores");
  scores.sort(([, a], [, b]) => b - a);
  const [category, score] = scores[0];
  const status = score >= REJECT ? "rejected" : score <= APPROVE ? "approved" : "needs_review";
  return { moderation, seq, status, category, score };
}
