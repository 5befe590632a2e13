/**
 * error_report: executions that ended with an error open one report for each function, code and hour.
 *
 * The first one gives the report its error; the others count. The count is kept by minute, so that a minute
 * that is counted twice, because executions were committed late, counts once. What its owner did with the
 * report (status, reason) stays. What its owner has cancelled is no fault.
 *
 * @param {import("../kernel").Span} span the tick: one owner, one minute
 * @param {import("../kernel").FunctionCtx} ctx
 */
export default async function on(span, ctx) {
  const { from, to, round, limit } = ctx.input.tick;
  const most = Math.min(limit, 40); // each costs a read
  const failed = { entity_type: "execution", status: "error", owner_id: span.owner_id };
  const at = { gte: new Date(Date.parse(from) - 60_000).toISOString(), lt: to };
  const groups = await ctx.summarize({ ...failed, at }, { by: ["parent_id", "error.code"], bucket: "minute" });

  const reports = new Map();
  for (const { parent_id, "error.code": code, bucket, count } of groups) {
    if (code === "cancelled") continue;
    const time = String(bucket);
    const key = `error/${parent_id}/${code}/${time.slice(0, 13)}`;
    const report = reports.get(key) || { parent_id, code, hour: `${time.slice(0, 13)}:00:00Z`, minutes: {} };
    report.minutes[time.slice(14, 16)] = count;
    reports.set(key, report.id ? report : { ...report, id: ctx.bucket(key) });
  }
  const turn = [...reports.values()].slice(round * most, (round + 1) * most);
  const known = turn.length > 0 ? await ctx.find({ id: turn.map(({ id }) => id) }, 1000) : [];

  const actions = [];
  for (const { id, parent_id, code, hour, minutes } of turn) {
    const before = known.find((report) => report.id === id);
    const [first] = before ? [] : await ctx.find({ ...failed, parent_id, "error.code": String(code), at }, 1);
    const counts = { ...(before && before.metadata && before.metadata.minutes), ...minutes };
    actions.push({
      emit_span: {
        id,
        entity_type: "error_report",
        did: "opened",
        this: "execution.error",
        name: String(code),
        status: before ? before.status : "open",
        reason: before && before.reason,
        at: hour,
        parent_id,
        related_to: before ? before.related_to : first && [first.id],
        error: before ? before.error : first && first.error, // none where it has no code to be found by
        metadata: { count: Object.values(counts).reduce((sum, count) => sum + count, 0), hour, minutes: counts },
      },
    });
  }
  return reports.size > (round + 1) * most ? [...actions, { again: true }] : actions;
}
