/**
 * What a kernel, a function and a policy see (contract: one `ctx`; functions and policies get a part).
 *
 * Code is an `export default`, a `globalThis.default` or a top-level `main(ctx)`; a function may also
 * be a body with `return` that sees `input`; a policy is `on(span, ctx)`. There are no imports, no
 * clock and no randomness but `ctx.now()` and `ctx.id()`.
 */

/** One version of one thing: a row of ledger.universal_registry. Absent is SQL NULL. */
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

export interface RunResult {
  ok: boolean;
  /** What the code returned; null for undefined. */
  output?: unknown;
  /** The input that the code saw: the request's own, else the function's. */
  input?: unknown;
  error?: { code: string; message: string; line?: number; column?: number };
  /** Milliseconds from start to end, waiting included. */
  duration_ms: number;
  /** What the code emitted with ctx.insertSpan, to be inserted or dropped by the kernel. */
  spans: Partial<Span>[];
}

export interface Ctx {
  /** The spans to act on (kernels). */
  batch: Span[];
  input: any;
  manifest: Manifest;
  /** Owner and tenant of the cause. */
  env: { APP_USER_ID: string; APP_TENANT_ID: string };
  /**
   * Buffers a span; it is written when the run ends well. The host derives the id from the cause and
   * sets owner, tenant, visibility, who, at, hash and signature. In a kernel a refusal is thrown when
   * the returned span is first read, and ends the run where it never is.
   */
  insertSpan(partial: Partial<Span>, origin?: Origin): Span;
  /** The next version of a request of the batch. Its seq may still move by one (a `running` mark). */
  version(id: string, changes: Partial<Span>): Span;
  /** Current spans that the cause may read, newest first; at most 1000, 100 by default. */
  find(filter: Record<string, string | string[]>, limit?: number): Promise<Span[]>;
  /** Kernels with the `sql` grant only: one read-only statement, 10,000 rows, 2 s. */
  sql(strings: TemplateStringsArray, ...values: unknown[]): Promise<{ rows: any[] }>;
  /** Kernels only: runs a function, a policy or another kernel. */
  run(
    target: { id: string; seq?: number; input?: unknown; cause?: Key },
    options?: { timeout_ms?: number },
  ): Promise<RunResult>;
  now(): string;
  id(): string;
  log(...values: unknown[]): void;
  crypto: {
    blake3(bytes: Uint8Array): Uint8Array;
    hex(bytes: Uint8Array): string;
    toU8(hex: string): Uint8Array;
    verify(signature: Uint8Array, hash: Uint8Array, publicKey: Uint8Array): boolean;
    randomUUID(): string;
  };
}
