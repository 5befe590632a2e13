/**
 * What code sees: functions and policies get `FunctionCtx`, kernels the whole `Ctx`.
 *
 * Code is an `export default`, a `globalThis.default` or a top-level `main(ctx)`; a function may also
 * be a body with `return` that sees `input` and `ctx`; a policy is `on(span, ctx)`. It is JavaScript, or
 * TypeScript where the column `language` says so. The globals beside the language
 * itself (console, timers, URL, TextEncoder …) are in globals.d.ts; the guide is docs/functions.md.
 */

/**
 * One version of one thing: a row of ledger.universal_registry. Absent is SQL NULL. A JSON number that a double
 * would round (9007199254740993) arrives as a string of its text, wherever it stands.
 */
export interface Span {
  id: string;
  seq: number;
  entity_type: string;
  who: string;
  did?: string;
  this?: string;
  at: string;
  accepted_at?: string;
  scheduled_at?: string;
  owner_id: string;
  tenant_id: string;
  visibility: "private" | "tenant" | "public";
  status?: string;
  is_deleted: boolean;
  parent_id?: string;
  related_to?: string[];
  trace_id?: string;
  policy_id?: string;
  name?: string;
  code?: string;
  language?: string;
  input?: unknown;
  output?: unknown;
  error?: unknown;
  duration_ms?: number;
  attempt?: number;
  metadata?: Record<string, any>;
  [column: string]: unknown;
}

/** Names one version; a whole span will do, but is sent whole. */
export interface Key {
  id: string;
  seq: number;
}

/** The manifest in force (metadata of the manifest span, defaults filled in). */
export interface Manifest {
  kernels: Record<string, string>;
  policy: { slow_ms: number; timeout_ms: number };
  throttle: { per_tenant_daily_exec_limit: number; per_user_daily_exec_limit: number };
  grants: Record<string, string[]>;
  /** The kernels, by name, that a client's request may call. */
  callable: string[];
  [key: string]: any;
}

/** On behalf of which span of the batch a call acts. Needed only where the batch has several. */
export interface Origin {
  cause?: Key;
  /** The policy version whose action this is (policy_agent). */
  policy?: Key;
  /** Take back what this cause and policy inserted before in this run. */
  discard?: boolean;
}

/** What `reserve` answers: granted 0 says that nothing may run now, and why. */
export interface Reservation {
  granted: number;
  /** A daily limit of the tenant or the user, a rate limit, or the function's open circuit. */
  reason?: "tenant" | "user" | "rate" | "breaker";
  /** When it is worth asking again. */
  retry_at?: string;
  /** The limit that is reached, and how many count today. */
  limit?: number;
  today?: number;
  /** Why a `force` that is stated lets nothing through. */
  note?: string;
}

export interface RunResult {
  ok: boolean;
  /** What the code returned; null for undefined. */
  output?: unknown;
  /** The input that the code saw: the request's own, else the function's. */
  input?: unknown;
  error?: { code: string; message: string; line?: number; column?: number; stack?: string };
  /** Milliseconds from start to end, waiting included. */
  duration_ms: number;
  /** What the code emitted with ctx.insertSpan, to be inserted or dropped by the kernel. */
  spans: Partial<Span>[];
  /** The answer to `options.reserve`. Where it grants nothing, nothing ran. */
  reserved?: Reservation;
  /** What the function's metadata says about its runs: over a limit, and after a failure. */
  settings?: { quota?: "drop"; retry?: { max_attempts: number; base_ms: number } };
  /** When the request is to be tried again after this failure, by `settings.retry`. */
  retry_at?: string;
  /** How many attempts have failed, where `settings.retry` allows none more. */
  given_up?: number;
}

/** Bounds of a column: times in RFC 3339 with an offset, or numbers. Where the column is null, none holds. */
export interface Range {
  gt?: string | number;
  gte?: string | number;
  lt?: string | number;
  lte?: string | number;
}

/**
 * What a filter of `find` and `summarize` may name. A text holds where the column equals it, a list where it
 * is one of them, a range where it lies within; all entries hold. Any other column is refused with the code
 * `denied`. `error.code` is the code in the column error.
 */
export type Filter = Partial<
  Record<
    | "id"
    | "entity_type"
    | "status"
    | "parent_id"
    | "trace_id"
    | "owner_id"
    | "tenant_id"
    | "visibility"
    | "name"
    | "kind"
    | "this"
    | "did"
    | "policy_id"
    | "session_id"
    | "error.code",
    string | string[]
  > &
    Record<
      "at" | "accepted_at" | "ttl_at" | "scheduled_at" | "duration_ms" | "value" | "priority",
      Range
    >
>;

/** The second argument of `fetch`. */
export interface FetchInit {
  /** GET by default. */
  method?: string;
  /**
   * A value may hold `{{NAME}}`, for which the host fills in the secret of that name, where it is granted to this
   * code and bound to that host; and `{{idempotency_key}}`, which is the same whenever this call of this request is
   * made again. Without a header Idempotency-Key of your own the call has one with it, and X-LogLine-Attempt.
   */
  headers?: Record<string, string>;
  /** Text, or a value that is sent as JSON; 256 KiB. */
  body?: unknown;
  /** Of the whole call; at most, and by default, the manifest's limits.io_timeout_ms. */
  timeout_ms?: number;
  /**
   * How often the call is repeated, at most 3, where the network fails or the server answers 429, 500, 502, 503
   * or 504; the pause is 500 ms and doubles, or is what Retry-After asks for, up to 20 s.
   */
  retry?: number;
}

/** What `fetch` resolves to. Secrets that the server sends back are masked as `***`. */
export interface FetchResponse {
  status: number;
  /** The status is 200 to 299. */
  ok: boolean;
  /** Of the last redirect. */
  url: string;
  /** Names in lower case; `get` and `has` take any case. */
  headers: Record<string, string> & { get(name: string): string | null; has(name: string): boolean };
  /** 1 and the repetitions. */
  attempts: number;
  elapsed_ms: number;
  /** The body, 1 MiB at most, as often as you like. What is no UTF-8 becomes U+FFFD. */
  text(): Promise<string>;
  json(): Promise<any>;
}

/** What `summarize` gives for one group. The columns of `by` are members, too. */
export interface Summary {
  /** Start of the minute, hour or day, where `bucket` is stated. */
  bucket?: string;
  count: number;
  /** The figures of `of`, where it is stated; null where no span of the group has a value. */
  sum?: number | null;
  min?: number | null;
  max?: number | null;
  avg?: number | null;
  p50?: number | null;
  p95?: number | null;
  p99?: number | null;
  [column: string]: unknown;
}

/**
 * What a function or a policy gets.
 *
 *     // Counts the caller's open orders (a hundred at most), and names the oldest of them.
 *     export default async function main(ctx) {
 *       const orders = await ctx.find({ entity_type: "order", status: ["new", "paid"] });
 *       ctx.log("found", orders.length);
 *       ctx.insertSpan({ entity_type: "note", name: "counted", metadata: { count: orders.length } });
 *       return { count: orders.length, oldest: orders.length > 0 ? orders[orders.length - 1].id : null };
 *     }
 */
export interface FunctionCtx {
  /** The request's input, else the function's own; `{span}` in a policy. null where there is none. */
  input: any;
  /** Owner and tenant of the cause: of the request, or of the span that the policy is shown. */
  env: { APP_USER_ID: string; APP_TENANT_ID: string };
  /** Empty: only a kernel gets spans in this way. */
  batch: Span[];
  manifest: Manifest;
  /**
   * Functions only; a policy answers with actions, `[{ emit_span: {…} }]`. Buffers a span: it is written with
   * the execution, or not at all. The host derives the id and sets owner, tenant, visibility, who, at. A
   * visibility that is stated may be narrower than that of the request, not wider (`denied`). What runs or
   * rules (function, policy, provider, prompt_*) a function may append for its own owner alone.
   */
  insertSpan(partial: Partial<Span>): Span;
  /**
   * Current spans that the caller may read (in a tenant's policy: its owner), newest first; at most 1000,
   * 100 by default. What this run has inserted is not there yet. More than 8 MiB are refused with `limit.rows`:
   * ask for fewer. Of one run's reads two are under way at once, the others wait.
   */
  find(filter: Filter, limit?: number): Promise<Span[]>;
  /**
   * Counts the current spans that `find` would see, in groups: by columns (entity_type, status, owner_id,
   * tenant_id, visibility, name, kind, this, did, parent_id, policy_id, provider_id, session_id, model, unit,
   * severity, error.code), and by the minute, hour or day of `at` in UTC. At most 10,000 groups and 2 s.
   * `find` and `summarize` together may be called as often as the manifest's limits.sql_calls says.
   */
  summarize(
    filter: Filter,
    options?: {
      by?: string[];
      bucket?: "minute" | "hour" | "day";
      of?: "duration_ms" | "value" | "cost" | "tokens_in" | "tokens_out";
    },
  ): Promise<Summary[]>;
  /**
   * Functions and policies only. A stable id for what is counted up: the same for the same code, tenant, owner
   * and key. A span that states it as id becomes the first version, or the next one where the content differs,
   * or nothing where it is equal (all columns but at, trace_id and who).
   */
  bucket(key: string): string;
  /**
   * Not in policies. Asks a host that the manifest grants to this function or kernel (`fetch:host:port`) and that
   * the operator lists (LOGLINE_FETCH_ALLOW). Refused with `denied` is what one of the two lacks, with
   * `limit.net` what is too much: 20 calls a run (limits.net_calls), 6 at once. What the network or the server
   * fails to do rejects with the code `exception` and a text that names it: dns, connect, tls, timeout, reset.
   */
  fetch(url: string, init?: FetchInit): Promise<FetchResponse>;
  /** The time in UTC, with six fraction digits and Z. */
  now(): string;
  /** A fresh id. The same cause gives the same ids in the same order. */
  id(): string;
  /**
   * Writes a line into `metadata.run.logs` of the execution, as {level, message, at_us}: microseconds since
   * the run's start, by the script's clock. 64 KiB a run. A policy's lines are not kept.
   */
  log(...values: unknown[]): void;
  crypto: {
    blake3(bytes: Uint8Array): Uint8Array;
    hex(bytes: Uint8Array): string;
    toU8(hex: string): Uint8Array;
    /**
     * Ed25519 (RFC 8032), strictly: no key of small order, nothing that is not in canonical form. Each
     * argument may be hex as well. Whether the key counts in this ledger, it does not say.
     */
    verify(
      signature: Uint8Array | string,
      hash: Uint8Array | string,
      publicKey: Uint8Array | string,
    ): boolean;
    randomUUID(): string;
    /** Fills a typed array of integers, 65,536 bytes at most, and returns it. */
    getRandomValues<T extends ArrayBufferView>(array: T): T;
  };
}

/** What a policy returns in a list. docs/policies.md says who may do what. */
export type Action =
  | { emit_span: Partial<Span> }
  | { version: { id: string } & Partial<Span> }
  | { run: "run_code"; span_id: string; input?: unknown }
  | { again: true };

/** `ctx.input.tick` of a time-driven policy. */
export interface Tick {
  every: "minute" | "hour" | "day";
  from: string;
  to: string;
  /** 0, then one more for each `{again: true}`. */
  round: number;
  /** How many actions a turn may have. */
  limit: number;
  /** How many boundaries before this one are passed over (metadata.fill). */
  missed?: number;
}

/** What a kernel gets. */
export interface Ctx extends FunctionCtx {
  /** The spans to act on. */
  batch: Span[];
  /**
   * Buffers a span; it is written when the run ends well. The host derives the id from the cause and
   * sets owner, tenant, visibility, who, hash and signature; a stated `id` is a name within this run, for
   * `parent_id` and `related_to` of later spans. A refusal is thrown when the returned span is first read,
   * and ends the run where it never is.
   */
  insertSpan(partial: Partial<Span>, origin?: Origin): Span;
  /**
   * The next version of a request of the batch; its seq may still move by one (a `running` mark). On behalf of
   * a policy (`origin.policy`): of any span that the policy may move on; equal content is no version.
   */
  version(id: string, changes: Partial<Span>, origin?: Origin): Span;
  /** On behalf of a time-driven policy: its tick is to be judged once more. */
  again(origin: Origin): { id: string };
  /**
   * Needs the `sql` grant: one select, with or values, of what the cause's owner may read; 10,000 rows, 8 MiB,
   * 2 s. It calls the functions that docs/sandbox.md lists, names no pg_ relation, and writes texts as '…'.
   */
  sql(strings: TemplateStringsArray, ...values: unknown[]): Promise<{ rows: any[] }>;
  /**
   * Runs a function, a policy or another kernel. A kernel that goes over `ctx.batch` can be run for several
   * causes at once: each is complete, and committed, as soon as it has its next version. What is left undone is
   * run again for each cause alone.
   */
  run(
    target: { id: string; seq?: number; input?: unknown; cause?: Key; causes?: Key[] },
    options?: { timeout_ms?: number; reserve?: { name: "exec"; n: 1 } },
  ): Promise<RunResult>;
  /**
   * Needs the `reserve` grant. Counts one execution of a request against the manifest's limits; asked again
   * for the same attempt it grants the same one. `run` with `options.reserve` is both in one call.
   */
  reserve(quota: { name: "exec"; n: 1 }, origin?: Origin): Promise<Reservation>;
}
