// Measures graphile-worker or pg-boss as ../main.go measures River: one process, one measure, one line of JSON,
// in an empty database.
//
//   node measure.mjs graphile-worker --database URL --measure latency --n 200 --every-ms 10 --tenants 50
//
// Settings: those of graphile-worker's own perfTest (24 jobs at once, a local queue of 500, completions in
// batches), for latency without queue and batches; of pg-boss four workers with batches of 1,000 and the
// shortest poll it takes, half a second. Jobs do nothing, and carry their tenant as data: neither knows any.
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import { parseArgs } from "node:util";
import pg from "pg";

const producers = 2;
const batch = 200;
const lagMax = 5000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    database: { type: "string" },
    measure: { type: "string" },
    n: { type: "string", default: "100" },
    tenants: { type: "string", default: "1" },
    seconds: { type: "string", default: "5" },
    "every-ms": { type: "string", default: "10" },
  },
});
const n = Number(values.n);
const seconds = Number(values.seconds);
const tenants = Number(values.tenants);

let number = 0; // of the last job
let done = 0;
const started = []; // by number, where it is wanted
const run = (payload) => {
  started[(payload.data ?? payload).number] = performance.now();
  done++;
};
const job = () => {
  number++;
  return { number, tenant: `tenant${number % tenants}` };
};
const pool = new pg.Pool({ connectionString: values.database, max: 8 });

// graphileWorker returns enqueue(n), start(), stop() and isEmpty().
async function graphileWorker() {
  const { run: start, runMigrations, Logger } = await import("graphile-worker");
  const logger = new Logger(() => () => {});
  const isFast = values.measure !== "latency";
  const worker = isFast ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {};
  await runMigrations({ connectionString: values.database, logger });
  let runner;
  return {
    settings: isFast ? "24 jobs, local queue 500, batched completion" : "24 jobs; to the start of the job",
    enqueue: (count) => pool.query(
      `select from graphile_worker.add_jobs(array(
        select json_populate_recordset(null::graphile_worker.job_spec, $1::json)))`,
      [JSON.stringify(Array.from({ length: count }, () => ({ identifier: "noop", payload: job() })))]),
    start: async () => {
      runner = await start({
        connectionString: values.database, concurrency: 24, maxPoolSize: 25, noHandleSignals: true,
        logger, taskList: { noop: run }, preset: { worker: { ...worker, concurrentJobs: 24, maxPoolSize: 25 } },
      });
    },
    stop: () => runner.stop(),
    isEmpty: async () => {
      const { rows } = await pool.query("select exists (select from graphile_worker._private_jobs) as left");
      return !rows[0].left;
    },
  };
}

async function pgBoss() {
  const { default: PgBoss } = await import("pg-boss");
  const boss = new PgBoss({ connectionString: values.database, max: 10 });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  await boss.createQueue("noop");
  return {
    settings: "4 workers, batches of 1,000, poll 0.5 s",
    enqueue: (count) => boss.insert(Array.from({ length: count }, () => ({ name: "noop", data: job() }))),
    start: async () => {
      for (let i = 0; i < 4; i++) {
        await boss.work("noop", { batchSize: 1000, pollingIntervalSeconds: 0.5 },
          async (jobs) => jobs.forEach(run));
      }
    },
    stop: () => boss.stop({ graceful: false, wait: false, close: true }),
    isEmpty: async () => {
      const { rows } = await pool.query(
        "select exists (select from pgboss.job where name = 'noop' and state < 'completed') as left");
      return !rows[0].left;
    },
  };
}

// latency is from the return of the insert's commit to the start of the job: pick-up. Jobs come at a steady
// pace, whether the last one has started or not.
async function latency(system) {
  await system.start();
  const warmup = 20;
  const committed = [];
  const every = Number(values["every-ms"]);
  const began = performance.now();
  for (let i = 1; i <= n + warmup; i++) {
    await pause(Math.max(began + i * every - performance.now(), 0));
    await system.enqueue(1);
    committed[i] = performance.now();
  }
  while (done < n + warmup) await pause(5);
  const ms = [];
  for (let i = warmup + 1; i <= n + warmup; i++) ms.push(Math.max(started[i] - committed[i], 0));
  return { ms };
}

// sustained inserts while the jobs run, with at most lagMax of them waiting.
async function sustained(system) {
  await system.start();
  let isOver = false;
  const produce = async () => {
    while (!isOver) {
      if (number - done >= lagMax) await pause(1);
      else await system.enqueue(batch);
    }
  };
  const all = Array.from({ length: producers }, produce);
  await pause(1000);
  const began = performance.now();
  const before = done;
  await pause(1000 * seconds);
  const found = { jobs: done - before, seconds: (performance.now() - began) / 1000 };
  isOver = true;
  await Promise.all(all);
  return found;
}

// drain works off what was inserted before; it ends when the last job is gone, or the time is over.
async function drain(system) {
  for (let left = n; left > 0; left -= 5000) await system.enqueue(Math.min(left, 5000));
  const began = performance.now();
  await system.start();
  const passed = () => (performance.now() - began) / 1000;
  while (passed() < seconds && (done < n || !(await system.isEmpty()))) await pause(20);
  return { jobs: done, seconds: passed() };
}

const systems = { "graphile-worker": graphileWorker, "pg-boss": pgBoss };
const measures = { latency, sustained, drain };
const system = await systems[positionals[0]]();
const found = await measures[values.measure](system);
console.log(JSON.stringify({ ...found, settings: system.settings }));
process.exit(0); // what still runs is of no interest
