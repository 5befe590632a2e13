/**
 * provider_exec: one call of a model provider, for a request or for another kernel.
 *
 * A request calls it: parent_id is this kernel, input {provider_id, payload}. A kernel runs it with such an
 * input, gets what it returns, and ends its own request. The provider is a span that says where and how; its
 * host and its secret must be granted by the manifest and listed by the operator.
 *
 * @param {import("./kernel").Ctx} ctx batch: one request
 */
export default async function main(ctx) {
  const request = ctx.batch[0];
  const isCalled = request.parent_id === ctx.manifest.kernels.provider_exec;
  if (isCalled) {
    const reserved = await ctx.reserve({ name: "exec", n: 1 });
    if (reserved.granted === 0) return block(ctx, request, reserved);
  }
  /** @type {any} what is known of the call, as far as it gets */
  const call = { metadata: {} };
  try {
    await make(ctx, (isCalled ? request.input : ctx.input) ?? {}, call);
  } catch (error) {
    const message = clean(error.message).slice(0, 2000);
    call.error = { code: error.code ?? "exception", message, status: call.metadata.http_status };
  }
  const { provider, text, finish_reason, reply, input, ...columns } = call;
  const status = call.error ? "error" : "complete";
  const related_to = provider ? [request.id, provider.id] : [request.id];
  const isKept = (provider?.metadata.record ?? true) === true;
  ctx.insertSpan({
    ...columns, entity_type: "provider_execution", did: "called", this: "provider.exec", status, related_to,
    parent_id: request.parent_id, trace_id: request.trace_id,
    input: isKept ? input : undefined,
    output: isKept ? { text, finish_reason, reply } : { finish_reason },
  });
  const { error, metadata, duration_ms, ...figures } = columns;
  const { provider_id, model } = figures;
  const value = duration_ms === undefined ? undefined : String(duration_ms);
  const metric = { entity_type: "metric", did: "measured", this: "llm_call", status, value, unit: "ms" };
  ctx.insertSpan({ ...metric, provider_id, model, related_to, trace_id: request.trace_id });
  if (isCalled) ctx.version(request.id, { did: "ran", status });
  return { ok: !error, text, finish_reason, error, duration_ms, ...figures };
}

/** Finds the provider, asks it, and reads the reply, into call.
 * @param {import("./kernel").Ctx} ctx @param {any} input @param {any} call
 */
async function make(ctx, { provider_id, payload }, call) {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(provider_id)) {
    throw fault("denied", "input.provider_id must be the id of a provider, a UUID");
  }
  const filter = { id: String(provider_id), entity_type: "provider", status: "active" };
  const [provider] = await ctx.find(filter, 1);
  if (!provider) throw fault("not_found", `there is no active provider ${provider_id} that the caller may read`);
  const config = provider.metadata ?? {};
  Object.assign(call, { provider: { ...provider, metadata: config }, provider_id: provider.id });
  call.metadata.provider = { name: provider.name, seq: provider.seq, type: config.type };
  // The request has it in any case; a span holds 1 MiB.
  call.input = JSON.stringify(payload ?? null).length > 4 * KEPT ? undefined : payload;

  const shape = SHAPES.get(config.type);
  if (!shape) throw fault("denied", "the provider's metadata.type must be openai, anthropic or ollama");
  if (!/^https?:\/\/[^\s?#@\\]+$/.test(config.base_url)) {
    throw fault("denied", "the provider's metadata.base_url must be http(s)://host/path, without ?, # and @");
  }
  const body = bodyOf(shape, config, payload);
  call.model = body.model;
  const price = priceOf(config, body.model);
  const prices = price && [price.input_per_million, price.output_per_million].map(exact);
  const headers = headersOf(shape, provider, config);
  const init = { method: "POST", headers, body, timeout_ms: config.timeout_ms, retry: 2 };
  const answer = await ctx.fetch(config.base_url.replace(/\/+$/, "") + shape.path, init);
  call.duration_ms = answer.elapsed_ms;
  Object.assign(call.metadata, { http_status: answer.status, http_attempts: answer.attempts });
  call.reply = clean(await answer.text()).slice(0, KEPT);
  if (!answer.ok) {
    const told = await answer.json().catch(() => undefined);
    const message = told?.error?.message ?? told?.error ?? call.reply.slice(0, 500);
    throw fault("exception", `the provider answered ${answer.status}: ${message}`);
  }
  const read = await answer.json().then(shape.read).catch(() => ({}));
  if (typeof read.text !== "string") throw fault("exception", `the answer holds no text in the form of ${config.type}`);
  call.text = clean(read.text).slice(0, KEPT);
  call.finish_reason = clean(String(read.finish_reason)).slice(0, 100);
  [call.tokens_in, call.tokens_out] = [read.tokens_in, read.tokens_out].map(count);
  if (!prices || call.tokens_in === undefined || call.tokens_out === undefined) return;
  call.cost = costOf(prices, [call.tokens_in, call.tokens_out]);
  call.metadata.currency = price.currency;
}

/** @param {Shape} shape @param {import("./kernel").Span} provider @param {any} config */
function headersOf(shape, provider, config) {
  const headers = { "idempotency-key": "{{idempotency_key}}", ...shape.headers };
  if (config.auth_env === undefined) return headers;
  if (provider.tenant_id !== "system" || !/^[A-Z][A-Z0-9_]*$/.test(config.auth_env)) {
    throw fault("denied", "metadata.auth_env is the name of a secret, and for providers of tenant system alone");
  }
  return { ...headers, [shape.key[0]]: `${shape.key[1]}{{${config.auth_env}}}` };
}

/** What is sent: what the shape knows, by a listed model. @param {Shape} shape @param {any} config @param {any} payload */
function bodyOf(shape, config, payload) {
  const { model: own, models = [], max_tokens: bound = Infinity } = config;
  const wrong = [typeof own !== "string" && "model must be a name",
    !(Array.isArray(models) && models.every((m) => typeof m === "string")) && "models must be a list of names",
    bound !== Infinity && !count(bound) && "max_tokens must be a whole number above 0"].find(Boolean);
  if (wrong) throw fault("denied", `the provider's metadata.${wrong}`);
  const { messages, temperature = 0.2, max_tokens, model = own, ...more } = payload ?? {};
  if (!Array.isArray(messages) || messages.length === 0) {
    throw fault("denied", "payload.messages must be a list of {role, content}");
  }
  if (model !== own && !models.includes(model)) {
    throw fault("denied", `the provider does not allow the model ${model}: its metadata.models must list it`);
  }
  const foreign = Object.keys(more).find((key) => !shape.more.includes(key));
  if (foreign) throw fault("denied", `payload.${foreign} is unknown: ${shape.more.join(", ")} are passed on`);
  if (max_tokens !== undefined && !count(max_tokens)) throw fault("denied", "payload.max_tokens is no number above 0");
  const most = Math.min(max_tokens ?? Infinity, bound);
  return { ...shape.ask(messages, temperature, most === Infinity ? undefined : most, more), model };
}

/**
 * @typedef {{path: string, headers?: Record<string, string>, key: string[], more: string[], read: (r: any) => any,
 *   ask: (messages: any[], temperature: any, most: any, more: object) => any}} Shape how one type of provider is asked and answers
 */
const SHAPES = new Map(Object.entries(/** @type {Record<string, Shape>} */ ({
  openai: {
    path: "/chat/completions",
    key: ["authorization", "Bearer "],
    more: ["top_p", "stop", "seed", "response_format"],
    ask: (messages, temperature, max_tokens, more) => ({ ...more, messages, temperature, max_tokens }),
    read: ({ choices: [{ message, finish_reason }], usage }) => ({ text: message.content, finish_reason,
      tokens_in: usage?.prompt_tokens, tokens_out: usage?.completion_tokens }),
  },
  anthropic: {
    path: "/v1/messages",
    headers: { "anthropic-version": "2023-06-01" },
    key: ["x-api-key", ""],
    more: ["top_p", "top_k", "stop_sequences"],
    ask: (all, temperature, max_tokens = 1024, more) => {
      const messages = all.filter((m) => m.role !== "system");
      const system = all.filter((m) => m.role === "system").map((m) => m.content).join("\n\n") || undefined;
      return { ...more, system, messages, temperature, max_tokens };
    },
    read: ({ content, stop_reason, usage }) => ({
      text: content.map((/** @type {any} */ part) => part.text ?? "").join(""), finish_reason: stop_reason,
      tokens_in: usage?.input_tokens, tokens_out: usage?.output_tokens }),
  },
  ollama: {
    path: "/api/chat",
    key: ["authorization", "Bearer "],
    more: ["top_p", "top_k", "stop", "seed"],
    ask: (messages, temperature, num_predict, more) => ({ messages, stream: false,
      options: { ...more, temperature, num_predict } }),
    read: (r) => ({ text: r.message.content, finish_reason: r.done_reason, tokens_in: r.prompt_eval_count,
      tokens_out: r.eval_count }),
  },
})));

const KEPT = 50000; // characters of text and of reply

/** @param {string} code @param {string} message */
const fault = (code, message) => Object.assign(new Error(message), { code });

/** @param {any} text without the control characters that no column takes */
const clean = (text) => String(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, "\ufffd");

/** @param {any} n a whole number that a column holds, or undefined */
const count = (n) => (Number.isInteger(n) && n >= 0 && n < 2 ** 31 ? n : undefined);

/** The price of a model: what stands under its name, or, for the default one, plain. Without one cost is null.
 * @param {any} config @param {string} model
 */
function priceOf({ price, model: standard }, model) {
  const isPlain = model === standard && price && Object.values(price).some((part) => typeof part !== "object");
  return price?.[model] ?? (isPlain ? price : undefined);
}

/** @param {any} price a decimal, in units of 10^-12 */
function exact(price) {
  const [all, whole, fraction = ""] = /^(\d{1,9})(?:\.(\d{1,12}))?$/.exec(String(price)) ?? [];
  if (!all) throw fault("denied", 'the provider\'s metadata.price must hold decimals, for example "0.15"');
  return BigInt(whole + fraction.padEnd(12, "0"));
}

/** @param {bigint[]} prices per million @param {number[]} tokens */
function costOf(prices, tokens) {
  const digits = String(prices[0] * BigInt(tokens[0]) + prices[1] * BigInt(tokens[1])).padStart(19, "0");
  return `${digits.slice(0, -18)}.${digits.slice(-18)}`.replace(/\.?0+$/, "");
}

/** @param {any} ctx @param {any} request @param {import("./kernel").Reservation} reserved: nothing is called */
function block(ctx, request, { reason, limit, today, retry_at, note }) {
  const { id, trace_id } = request;
  const violation = { entity_type: "policy_violation", did: "blocked", status: "error", related_to: [id], trace_id };
  const topic = `quota.exec.per_${reason}.daily`;
  if (today !== undefined) ctx.insertSpan({ ...violation, this: topic, metadata: { limit, today } });
  const told = [`over the limit (${reason}): the next call is free at ${retry_at}`, note].filter(Boolean).join("; ");
  ctx.version(id, { did: "blocked", status: "blocked", reason: told, scheduled_at: retry_at });
}
