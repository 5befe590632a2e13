/**
 * run_code: one request is one run of its function, and one run is one execution.
 *
 * The function is pinned by the request, or its latest version. The execution, what the function
 * emitted, the slow mark and the request's last version are one transaction behind the request's
 * next (id, seq): a second worker's result vanishes as a whole.
 *
 * @param {import("./kernel").Ctx} ctx batch: one request
 */
export default async function main(ctx) {
  const request = ctx.batch[0];
  const pinned = (request.metadata && request.metadata.function) || {};
  const id = /** @type {string} */ (request.parent_id); // the ledger takes no request without
  const result = await ctx.run({ id, seq: pinned.seq, input: request.input });

  const status = result.ok ? "complete" : "error";
  const execution = ctx.insertSpan({
    entity_type: "execution",
    did: "executed",
    this: "run_code",
    status,
    parent_id: request.parent_id,
    related_to: [request.id],
    trace_id: request.trace_id,
    input: result.input,
    output: result.ok ? result.output : undefined,
    error: result.ok ? undefined : result.error,
    duration_ms: result.duration_ms,
  });
  for (const span of result.spans) ctx.insertSpan(span);
  if (result.ok && result.duration_ms > ctx.manifest.policy.slow_ms) {
    ctx.insertSpan({
      entity_type: "status_patch",
      did: "labeled",
      this: "status=slow",
      status: "complete",
      parent_id: execution.id,
      trace_id: request.trace_id,
      duration_ms: result.duration_ms,
      metadata: { status: "slow", slow_ms: ctx.manifest.policy.slow_ms },
    });
  }
  ctx.version(request.id, { did: "ran", status });
}
