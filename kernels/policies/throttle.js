/**
 * throttle: a tenant that has used up its daily quota is labeled, once a day.
 *
 * run_code does the blocking and says so in a policy_violation; this makes it visible for the tenant.
 *
 * @param {import("../kernel").Span} span the tick: one tenant, one minute
 * @param {import("../kernel").FunctionCtx} ctx
 */
export default async function on(span, ctx) {
  const { from, to } = ctx.input.tick;
  const [violation] = await ctx.find(
    {
      entity_type: "policy_violation",
      this: "quota.exec.per_tenant.daily",
      at: { gte: new Date(Date.parse(from) - 60_000).toISOString(), lt: to },
    },
    1,
  );
  if (!violation) return [];
  const day = violation.at.slice(0, 10);
  return [
    {
      emit_span: {
        id: ctx.bucket(`throttled/${day}`),
        entity_type: "status_patch",
        did: "labeled",
        this: "status=throttled",
        status: "complete",
        related_to: [violation.id],
        metadata: { status: "throttled", day, tenant: span.tenant_id },
      },
    },
  ];
}
