is([crypto === ctx.crypto, crypto.randomUUID() !== crypto.randomUUID(), Object.keys(crypto)],
  [true, true, ["blake3", "hex", "toU8", "verify", "randomUUID", "getRandomValues"]]);
const a = new Uint32Array(4), b = new Uint8Array(new ArrayBuffer(8), 2, 4);
is([crypto.getRandomValues(a) === a, a.some((x) => x !== 0)], [true, true]);
crypto.getRandomValues(b); const all = new Uint8Array(b.buffer);
is([all[0], all[1], all[6], all[7]], [0, 0, 0, 0]);
throws("QuotaExceededError", () => crypto.getRandomValues(new Uint8Array(65537)), 22);
for (const bad of [[], new Float64Array(1), null, {}]) throws("TypeError", () => crypto.getRandomValues(bad));

return wrong;
