/**
 * report.sales: one report of what was sold since the last one.
 *
 * A report begins where the one before ended and ends a little before its tick: what was being committed then is the
 * next one's. So nothing is left out and nothing counted twice, on the night of a clock change or behind a pause, too.
 * What counts is when the ledger accepted a sale, which nobody can state; its `at` is its writer's.
 */
type Ctx = import("../../../kernels/kernel").FunctionCtx;

const DAY_MS = 86_400_000;

export default async function main(ctx: Ctx) {
  const me = ctx.env.APP_USER_ID;
  const to = new Date((await tick(ctx, me)) - 1000 * (ctx.input?.grace_s ?? 300)).toISOString();
  const [last] = await ctx.find({ entity_type: "report", name: "sales", owner_id: me }, 1);
  const from = last ? (last.content as { to: string }).to : new Date(Date.parse(to) - DAY_MS).toISOString();
  if (from >= to) return { skipped: `there is a report up to ${from}` };

  const groups = await ctx.summarize(
    { entity_type: "sale", accepted_at: { gte: from, lt: to } }, { by: ["kind", "status"], of: "value" });
  const rows = groups.map(({ kind, status, count, sum }) => ({ shop: kind, status, count, cents: sum ?? 0 }));
  const cents = rows.filter((row) => row.status === "paid").reduce((total, row) => total + row.cents, 0);
  // One report begins at a time: of two runs at once the ledger refuses the slower one, and it is tried again.
  const report = ctx.insertSpan({ id: ctx.bucket(from), entity_type: "report", name: "sales", did: "counted", status: "complete",
    at: to, value: String(cents), unit: "cent", content: { from, to, rows } });
  return { report: report.id, cents };
}

/** The time that this run is for: that of its tick, and now where somebody has called it. */
async function tick(ctx: Ctx, me: string): Promise<number> {
  const [self] = await ctx.find({ entity_type: "function", name: "report.sales", owner_id: me }, 1);
  const open = await ctx.find({ entity_type: "request", parent_id: self.id, owner_id: me,
    status: ["scheduled", "running", "retry"] }, 100);
  const times = open.map((request) => request.metadata?.tick?.at).filter((at) => at !== undefined);
  return Date.parse(times.sort()[0] ?? ctx.now()); // of several, each run takes the oldest that is left
}
