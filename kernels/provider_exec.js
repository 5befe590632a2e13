/**
 * provider_exec: calls a model provider that the operator has allowed.
 *
 * It runs only where the manifest grants it the provider's host and secret; without that it refuses,
 * and the refusal is a span.
 *
 * @param {import("./kernel").Ctx} ctx batch: one request; input: {provider_id, payload}
 */
export default async function main(ctx) {
  const request = ctx.batch[0];
  const grants = ctx.manifest.grants.provider_exec || [];
  if (!grants.some((grant) => grant.startsWith("fetch:"))) {
    ctx.insertSpan({
      entity_type: "provider_execution",
      did: "called",
      this: "provider.exec",
      status: "error",
      related_to: [request.id],
      trace_id: request.trace_id,
      error: {
        code: "denied",
        message: "the manifest grants provider_exec no host: add fetch:<host>:<port> to its grants",
      },
    });
    return;
  }
  throw new Error("denied: calling a provider is not built into this version");
}
