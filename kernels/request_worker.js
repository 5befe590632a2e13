/**
 * request_worker: every open request is handed to run_code, each on its own.
 *
 * Each nested run is committed as soon as it ends, so a slow request holds up nobody. It appends
 * nothing itself.
 *
 * @param {import("./kernel").Ctx} ctx batch: requests that are due
 */
export default async function main(ctx) {
  const runs = [];
  for (const request of ctx.batch) {
    if (request.entity_type !== "request") continue;
    runs.push(ctx.run({ id: ctx.manifest.kernels.run_code, cause: { id: request.id, seq: request.seq } }));
  }
  await Promise.all(runs);
}
