/**
 * policy_agent: each span is shown to each policy that matches it, once, in commit order.
 *
 * A policy answers with actions: spans to emit, versions of spans to append, functions to run. The host
 * derives ids, sets on whose behalf each is, and refuses what the policy has no right to. A policy that fails
 * costs one policy_error, takes back all that it did for this span (of a tick: what was refused), and costs
 * nobody else anything.
 *
 * @param {import("./kernel").Ctx} ctx batch: spans, or ticks of time-driven policies;
 *   input.matches: [{span: [id, seq], policy: {id, seq}, tick?}]
 */
export default async function main(ctx) {
  for (const match of ctx.input.matches) {
    const span = /** @type {import("./kernel").Span} */ (
      ctx.batch.find((s) => s.id === match.span[0] && s.seq === match.span[1])
    );
    const cause = { id: span.id, seq: span.seq };
    const origin = { cause, policy: match.policy };
    const input = match.tick ? { span, tick: match.tick } : { span };
    const result = await ctx.run({ ...match.policy, input, cause });
    /** @type {any[]} of a tick, whose versions are of many spans: one that is refused holds up no other */
    const kept = [];
    try {
      if (!result.ok) throw result.error;
      const actions = result.output === null ? [] : result.output;
      if (!Array.isArray(actions)) throw new Error("on(span, ctx) must return an array of actions");
      const spans = actions.map((action) => act(ctx, action, origin));
      const refusals = spans.map(refusalOf); // none is left for later
      const passed = actions.filter((action, i) => refusals[i] === null);
      if (match.tick && actions.every((action, i) => action.version || refusals[i] === null)) {
        kept.push(...passed.filter((action) => action.again !== true)); // or it would be refused turn by turn
      }
      if (passed.length < actions.length) throw refusals.find((error) => error !== null);
    } catch (error) {
      // In the policy's own code.
      const place = result.ok ? {} : { line: error.line, column: error.column, stack: error.stack };
      ctx.insertSpan(
        {
          entity_type: "policy_error",
          did: "failed",
          this: "policy.eval",
          status: "error",
          parent_id: match.tick ? match.policy.id : span.id,
          related_to: match.tick ? [match.policy.id] : [match.policy.id, span.id],
          trace_id: span.trace_id,
          error: { code: error.code || "exception", message: String(error.message), ...place },
        },
        { ...origin, discard: true },
      );
      for (const action of kept) refusalOf(act(ctx, action, origin));
    }
  }
}

/** @param {{ id: string }} span as the host answered it: a refusal is thrown when it is read */
function refusalOf(span) {
  try {
    void span.id;
    return null;
  } catch (error) {
    return error;
  }
}

/**
 * Asks the host to carry out one action.
 *
 * @param {import("./kernel").Ctx} ctx
 * @param {any} action one entry of what a policy returned
 * @param {import("./kernel").Origin} origin
 */
function act(ctx, action, origin) {
  const isObject = action !== null && typeof action === "object";
  if (isObject && action.emit_span) return ctx.insertSpan(action.emit_span, origin);
  if (isObject && action.version) {
    const { id, ...changes } = action.version;
    return ctx.version(id, changes, origin);
  }
  if (isObject && action.run === "run_code") {
    return ctx.insertSpan({ entity_type: "request", parent_id: action.span_id, input: action.input }, origin);
  }
  if (isObject && action.again === true) return ctx.again(origin);
  throw new Error(
    'an action must be {emit_span: {…}}, {version: {id, …}}, {run: "run_code", span_id, input?} or {again: true}',
  );
}
