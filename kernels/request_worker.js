/**
 * request_worker: open requests are handed to run_code, or to the kernel that they call.
 *
 * What calls functions goes to run_code together, the rest each on its own. Each request is committed as soon
 * as it has its next version, so a slow one holds up nobody. It appends nothing itself.
 *
 * @param {import("./kernel").Ctx} ctx batch: requests that are due
 */
export default async function main(ctx) {
  const { kernels, callable } = ctx.manifest;
  const called = callable.map((name) => kernels[name]);
  const causes = [];
  const runs = [];
  for (const request of ctx.batch) {
    if (request.entity_type !== "request") continue;
    const cause = { id: request.id, seq: request.seq };
    const kernel = called.find((id) => id === request.parent_id);
    if (kernel) runs.push(ctx.run({ id: kernel, cause }));
    else causes.push(cause);
  }
  if (causes.length > 0) runs.push(ctx.run({ id: kernels.run_code, causes }));
  await Promise.all(runs);
}
