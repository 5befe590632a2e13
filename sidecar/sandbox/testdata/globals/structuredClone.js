const map = new Map([["a", {b: 1}], [{k: 1}, 2]]), set = new Set([1, map]);
const a = {n: null, u: undefined, d: new Date(5), r: /x/gi, map, set, list: [1, , 3], big: 10n};
a.self = a;
const c = structuredClone(a);
is(c !== a && c.self === c, true);
is([c.n, "u" in c, c.d instanceof Date, +c.d, c.r.source, c.r.flags, 1 in c.list, c.list.length],
  [null, true, true, 5, "x", "gi", false, 3]);
is([c.map.get("a").b, c.map !== map, [...c.map.keys()][1].k, c.set.has(c.map), c.big === 10n],
  [1, true, 1, true, true]);
const buffer = new ArrayBuffer(8), view = new Uint8Array(buffer, 2, 3);
view.set([1, 2, 3]);
const two = structuredClone({view, buffer, data: new DataView(buffer, 1)});
is([two.view.buffer === two.buffer, [...two.view], two.view.byteOffset, two.data.byteLength,
  two.data.buffer === two.buffer, two.buffer !== buffer], [true, [1, 2, 3], 2, 7, true, true]);
is([...structuredClone(new Float64Array([1.5, -0]))], [1.5, 0]);
is([structuredClone(Object(1)) instanceof Number, structuredClone(Object("s")) == "s",
  structuredClone(Object(false)) == false], [true, true, true]);
const e = structuredClone(Object.assign(new RangeError("r", {cause: {a: 1}}), {extra: 1}));
is([e instanceof RangeError, e.name, e.message, e.cause.a, "extra" in e, Object.keys(e).length],
  [true, "RangeError", "r", 1, false, 0], "error");
class Own extends Error { get name() { return "Own" } }
is([structuredClone(new Own("o")) instanceof Own, structuredClone(new Own("o")) instanceof Error], [false, true]);
class P { constructor() { this.x = 1 } get y() { return 2 } }
is(structuredClone(new P()), {x: 1});
is(structuredClone({get g() { return 7 }}).g, 7);
is(Object.getPrototypeOf(structuredClone(Object.create(null))) === Object.prototype, true);
for (const bad of [() => 1, Symbol(), {f() {}}, new WeakMap(), Promise.resolve(), new Proxy({}, {}), [Symbol()]])
  is(throws("DataCloneError", () => structuredClone(bad), 25) instanceof DOMException, true);
throws("TypeError", () => structuredClone());
is(structuredClone(undefined) === undefined, true);

return wrong;
