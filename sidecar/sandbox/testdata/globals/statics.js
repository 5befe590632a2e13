const odd = Object.groupBy([1, 2, 3], (n, i) => n % 2 ? "odd" : "even" + i);
is([odd, Object.getPrototypeOf(odd)], [{odd: [1, 3], even1: [2]}, null]);
is([...Map.groupBy([1, 2, 3], (n) => n % 2)], [[1, [1, 3]], [0, [2]]]);
is(Object.groupBy("aba", (c) => c), {a: ["a", "a"], b: ["b"]});
throws("TypeError", () => Object.groupBy([1]));
throws("TypeError", () => Object.groupBy(null, (x) => x));
throws("TypeError", () => Map.groupBy(1, (x) => x));
const {promise, resolve} = Promise.withResolvers();
setTimeout(() => resolve(7), 1);
is([await promise, promise instanceof Promise], [7, true]);
is(await Array.fromAsync([1, Promise.resolve(2)], async (n, i) => n * 10 + i), [10, 21]);
is(await Array.fromAsync({length: 2, 0: "a", 1: Promise.resolve("b")}), ["a", "b"]);
async function* count() { yield 1; yield 2; }
is(await Array.fromAsync(count(), (n) => n + 1), [2, 3]);
is(await Array.fromAsync([Promise.reject(1)]).catch((e) => e), 1);
is([Object.groupBy.name, Object.groupBy.length, Array.fromAsync.name, Object.keys(Object)],
  ["groupBy", 2, "fromAsync", []]);

return wrong;
