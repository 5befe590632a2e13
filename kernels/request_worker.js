/**
 * request_worker: every open request is handed to run_code, or to the kernel that it calls, each on its own.
 *
 * Each nested run is committed as soon as it ends, so a slow request holds up nobody. It appends
 * nothing itself.
 *
 * @param {import("./kernel").Ctx} ctx batch: requests that are due
 */
export default async function main(ctx) {
  const { kernels, callable } = ctx.manifest;
  const called = callable.map((name) => kernels[name]);
  const runs = [];
  for (const request of ctx.batch) {
    if (request.entity_type !== "request") continue;
    const kernel = called.find((id) => id === request.parent_id) ?? kernels.run_code;
    runs.push(ctx.run({ id: kernel, cause: { id: request.id, seq: request.seq } }));
  }
  await Promise.all(runs);
}
