const order = [], say = (x) => order.push(x);
setTimeout(say, 20, "20"); setTimeout(say, 0, "0"); setTimeout(say, 10, "10a"); setTimeout(say, 10, "10b");
clearTimeout(setTimeout(say, 5, "never")); clearTimeout(99); clearTimeout(undefined);
queueMicrotask(() => say("micro")); Promise.resolve().then(() => say("then")); say("now");
await new Promise((done) => setTimeout(done, 30));
is(order, ["now", "micro", "then", "0", "10a", "10b", "20"]);
let n = 0;
await new Promise((done) => { const id = setInterval(() => { if (++n === 3) { clearInterval(id); done(); } }, 5) });
is([n, performance.now() >= 45], [3, true]);
is([typeof setTimeout(() => 1, -5), setTimeout(() => 1, 1e12) > 0, setTimeout(() => 1, "7") > 0],
  ["number", true, true]);
throws("TypeError", () => setTimeout("x = 1")); throws("TypeError", () => queueMicrotask(1));
is(setTimeout.name, "setTimeout");

return wrong;
