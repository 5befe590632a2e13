/**
 * high_error_rate: more than 5 % errors among the executions of five minutes, 20 at least, open an alert.
 *
 * While one of the same hour is open there is no second one. What its owner has cancelled is no error.
 *
 * @param {import("../kernel").Span} span the tick: one tenant, one minute
 * @param {import("../kernel").FunctionCtx} ctx
 */
export default async function on(span, ctx) {
  const { to } = ctx.input.tick;
  const groups = await ctx.summarize(
    { entity_type: "execution", at: { gte: new Date(Date.parse(to) - 300_000).toISOString(), lt: to } },
    { by: ["status", "error.code"] },
  );
  const count = groups.reduce((sum, group) => sum + group.count, 0);
  const failed = groups.filter((group) => group.status === "error" && group["error.code"] !== "cancelled");
  const errors = failed.reduce((sum, group) => sum + group.count, 0);
  if (count < 20 || errors * 100 <= count * 5) return [];
  const open = await ctx.find(
    {
      entity_type: "alert",
      name: "high_error_rate",
      status: "open",
      policy_id: String(span.policy_id), // the engine's to state: nobody else's alert holds this one back
      at: { gte: `${to.slice(0, 13)}:00:00Z` },
    },
    1,
  );
  if (open.length > 0) return [];
  const value = ((errors * 100) / count).toFixed(1);
  return [
    {
      emit_span: {
        entity_type: "alert",
        did: "triggered",
        this: "high_error_rate",
        name: "high_error_rate",
        status: "open",
        severity: "high",
        at: to,
        value,
        unit: "percent",
        metadata: {
          value: Number(value),
          threshold: 5,
          message: `${errors} of ${count} executions of the last five minutes ended with an error`,
        },
      },
    },
  ];
}
