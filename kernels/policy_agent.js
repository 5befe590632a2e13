/**
 * policy_agent: each span is shown to each policy that matches it, once, in commit order.
 *
 * A policy answers with actions. Here it may emit spans; they take owner, tenant and visibility from
 * the span that triggered it. A policy that fails costs one policy_error and nobody else anything.
 *
 * @param {import("./kernel").Ctx} ctx batch: spans; input.matches: [{span: [id, seq], policy: {id, seq}}]
 */
export default async function main(ctx) {
  for (const match of ctx.input.matches) {
    const span = /** @type {import("./kernel").Span} */ (
      ctx.batch.find((s) => s.id === match.span[0] && s.seq === match.span[1])
    );
    const cause = { id: span.id, seq: span.seq };
    const origin = { cause, policy: match.policy };
    const result = await ctx.run({ ...match.policy, input: { span }, cause });
    try {
      if (!result.ok) throw result.error;
      const actions = result.output === null ? [] : result.output;
      if (!Array.isArray(actions)) throw new Error("on(span, ctx) must return an array of actions");
      const spans = actions.map(toDraft).map((draft) => ctx.insertSpan(draft, origin));
      const refused = spans.map(refusalOf).filter((error) => error !== null); // none is left for later
      if (refused.length > 0) throw refused[0];
    } catch (error) {
      ctx.insertSpan(
        {
          entity_type: "policy_error",
          did: "failed",
          this: "policy.eval",
          status: "error",
          parent_id: span.id,
          policy_id: match.policy.id,
          related_to: [match.policy.id, span.id],
          trace_id: span.trace_id,
          error: { code: error.code || "exception", message: String(error.message) },
        },
        { ...origin, discard: true },
      );
    }
  }
}

/** @param {import("./kernel").Span} span as insertSpan answered it: a refusal is thrown when it is read */
function refusalOf(span) {
  try {
    void span.id;
    return null;
  } catch (error) {
    return error;
  }
}

/** @param {any} action one entry of what a policy returned */
function toDraft(action) {
  if (action === null || typeof action !== "object" || !action.emit_span) {
    throw new Error("an action must be {emit_span: {…}}");
  }
  return action.emit_span;
}
