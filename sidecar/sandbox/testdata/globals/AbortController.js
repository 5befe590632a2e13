const c = new AbortController(), seen = [];
c.signal.addEventListener("abort", (e) => seen.push(e.type, e.target === c.signal), {once: true});
c.signal.onabort = () => seen.push("on");
is([c.signal.aborted, c.signal.throwIfAborted() === undefined], [false, true]);
const any = AbortSignal.any([new AbortController().signal, c.signal]);
c.abort(); c.abort();
is([seen, c.signal.aborted, c.signal.reason.name, c.signal.reason.code, any.reason === c.signal.reason],
  [["abort", true, "on"], true, "AbortError", 20, true]);
throws("AbortError", () => c.signal.throwIfAborted());
is(AbortSignal.abort("why").reason, "why");
throws("TypeError", () => new AbortSignal());
const slow = AbortSignal.timeout(20);
await new Promise((done) => slow.addEventListener("abort", done));
is([slow.reason.name, performance.now() >= 20], ["TimeoutError", true]);
const t = new EventTarget(), order = [];
t.addEventListener("x", {handleEvent(e) { order.push(1); e.preventDefault(); }});
t.addEventListener("x", (e) => { order.push(2); e.stopImmediatePropagation(); });
t.addEventListener("x", () => order.push(3));
is([t.dispatchEvent(new Event("x", {cancelable: true})), order], [false, [1, 2]]);
is([new DOMException("m", "NotFoundError").code, new DOMException().name, new DOMException("m") instanceof Error],
  [8, "Error", true]);

return wrong;
