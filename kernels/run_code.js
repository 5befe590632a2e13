/**
 * run_code: one request is one run of its function, and one run is one execution.
 *
 * The requests of a batch have nothing to do with each other. The function is pinned by the request, or its
 * latest version. The run is reserved with the same call: over a limit nothing runs. The execution, what the
 * function emitted, the slow mark and the request's next version are one transaction behind that version's
 * (id, seq): a second worker's result vanishes as a whole. With that version a request is complete, so it is
 * made last.
 *
 * @param {import("./kernel").Ctx} ctx batch: requests
 */
export default async function main(ctx) {
  await Promise.all(ctx.batch.map((request) => runOne(ctx, request)));
}

/**
 * @param {import("./kernel").Ctx} ctx
 * @param {import("./kernel").Span} request
 */
async function runOne(ctx, request) {
  const of = { cause: { id: request.id, seq: request.seq } };
  const pinned = (request.metadata && request.metadata.function) || {};
  const id = /** @type {string} */ (request.parent_id); // the ledger takes no request without
  const result = await ctx.run(
    { id, seq: pinned.seq, input: request.input, cause: of.cause },
    { reserve: { name: "exec", n: 1 } },
  );
  if (result.reserved && result.reserved.granted === 0) {
    refuse(ctx, request, result, result.reserved);
    return;
  }
  const execution = execute(ctx, request, "executed", result);
  for (const span of result.spans) ctx.insertSpan(span, of);
  if (result.ok && result.duration_ms > ctx.manifest.policy.slow_ms) {
    ctx.insertSpan(
      {
        entity_type: "status_patch",
        did: "labeled",
        this: "status=slow",
        status: "complete",
        parent_id: execution.id,
        trace_id: request.trace_id,
        duration_ms: result.duration_ms,
        metadata: { status: "slow", slow_ms: ctx.manifest.policy.slow_ms },
      },
      of,
    );
  }
  if (result.retry_at) {
    const reason = `attempt ${request.attempt} failed, the next one is at ${result.retry_at}`;
    ctx.version(request.id, { did: "failed", status: "retry", reason, scheduled_at: result.retry_at });
    return;
  }
  if (result.given_up) {
    const { code, message } = result.error || { code: "exception", message: "" };
    const reason = `${result.given_up} attempts failed, the last with ${code}: ${message.slice(0, 500)}`;
    ctx.version(request.id, { did: "failed", status: "dead", reason, error: result.error });
    return;
  }
  ctx.version(request.id, { did: "ran", status: result.ok ? "complete" : "error" });
}

/**
 * The record of a run, or of why there was none.
 *
 * @param {import("./kernel").Ctx} ctx
 * @param {import("./kernel").Span} request
 * @param {string} did
 * @param {import("./kernel").RunResult} result
 */
function execute(ctx, request, did, result) {
  return ctx.insertSpan(
    {
      entity_type: "execution",
      did,
      this: "run_code",
      status: result.ok ? "complete" : "error",
      parent_id: request.parent_id,
      related_to: [request.id],
      trace_id: request.trace_id,
      input: result.input,
      output: result.ok ? result.output : undefined,
      error: result.ok ? undefined : result.error,
      duration_ms: result.duration_ms,
    },
    { cause: { id: request.id, seq: request.seq } },
  );
}

/**
 * What becomes of a request that may not run now: it waits (blocked), or it ends where waiting makes no
 * sense: the circuit is open, or the function says so.
 *
 * @param {import("./kernel").Ctx} ctx
 * @param {import("./kernel").Span} request
 * @param {import("./kernel").RunResult} result
 * @param {import("./kernel").Reservation} reserved
 */
function refuse(ctx, request, result, reserved) {
  if (reserved.reason === "tenant" || reserved.reason === "user") {
    // One for each tenant (or user), limit and day: the host gives all of them one id.
    ctx.insertSpan(
      {
        entity_type: "policy_violation",
        did: "blocked",
        this: `quota.exec.per_${reserved.reason}.daily`,
        status: "error",
        related_to: [request.id],
        trace_id: request.trace_id,
        metadata: { limit: reserved.limit, today: reserved.today },
      },
      { cause: { id: request.id, seq: request.seq } },
    );
  }
  const why = REASONS[/** @type {string} */ (reserved.reason)](reserved);
  const reason = [why, reserved.note].filter(Boolean).join("; ");
  const drops = result.settings && result.settings.quota === "drop";
  if (reserved.reason !== "breaker" && !drops) {
    ctx.version(request.id, { did: "blocked", status: "blocked", reason, scheduled_at: reserved.retry_at });
    return;
  }
  execute(ctx, request, "refused", { ...result, error: { code: "denied", message: reason } });
  ctx.version(request.id, { did: "refused", status: "error", reason });
}

/** @type {Record<string, (reserved: import("./kernel").Reservation) => string>} */
const REASONS = {
  tenant: (r) => `the tenant has used its ${r.limit} executions of today: the next are free at ${r.retry_at}`,
  user: (r) => `the user has used his ${r.limit} executions of today: the next are free at ${r.retry_at}`,
  rate: (r) => `the tenant may have ${r.limit} runs a minute: this one is free at ${r.retry_at}`,
  breaker: (r) => `the function failed again and again, so its circuit is open: it is tried at ${r.retry_at}`,
};
