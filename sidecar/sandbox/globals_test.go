package sandbox

import (
	"testing"
	"time"
)

// checks stands before each case of TestGlobalsKeepTheirStandards, which returns what does not hold.
const checks = `const wrong = [];
	const is = (got, want, what = "") => {
		if (JSON.stringify(got) !== JSON.stringify(want)) wrong.push([what, got, want]);
	};
	const throws = (name, f, code) => {
		try { f() } catch (e) {
			if (e.name !== name || code !== undefined && e.code !== code) wrong.push([f.toString(), e.name, e.message]);
			return e;
		}
		wrong.push([f.toString(), "did not throw"]);
	};
`

func TestGlobalsKeepTheirStandards(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for name, source := range map[string]string{
		"structuredClone": `
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
			is(structuredClone(undefined) === undefined, true);`,
		"TextEncoder": `
			const e = new TextEncoder();
			is([e.encoding, [...e.encode("é€😀")], [...e.encode()], [...e.encode("\ud800")]],
				["utf-8", [195, 169, 226, 130, 172, 240, 159, 152, 128], [], [239, 191, 189]]);
			const into = new Uint8Array(5);
			is([e.encodeInto("a😀b", into), [...into]], [{read: 3, written: 5}, [97, 240, 159, 152, 128]]);
			is(e.encodeInto("€€", new Uint8Array(4)), {read: 1, written: 3});
			is(e.encode("x") instanceof Uint8Array, true);`,
		"TextDecoder": `
			const bytes = (...b) => new Uint8Array(b), d = new TextDecoder();
			is([d.encoding, d.fatal, d.ignoreBOM, d.decode(), d.decode(bytes(0xe2, 0x82, 0xac).buffer)],
				["utf-8", false, false, "", "€"]);
			is(d.decode(bytes(0xef, 0xbb, 0xbf, 0x61)), "a", "bom");
			is(new TextDecoder("UTF8", {ignoreBOM: true}).decode(bytes(0xef, 0xbb, 0xbf, 0x61)), "\ufeffa");
			for (const [given, want] of [[[0xff], "\ufffd"], [[0xc0, 0x80], "\ufffd\ufffd"], [[0xe2, 0x82], "\ufffd"],
				[[0xf0, 0x9f, 0x98, 0x61], "\ufffda"], [[0xed, 0xa0, 0x80], "\ufffd\ufffd\ufffd"],
				[[0xf4, 0x90, 0x80, 0x80], "\ufffd\ufffd\ufffd\ufffd"], [[0xe2, 0x28, 0xa1], "\ufffd(\ufffd"]])
				is(d.decode(bytes(...given)), want, given);
			for (const bad of [[0xff], [0xe2, 0x82]])
				throws("TypeError", () => new TextDecoder("utf-8", {fatal: true}).decode(bytes(...bad)));
			const s = new TextDecoder();
			is([s.decode(bytes(0xef, 0xbb), {stream: true}), s.decode(bytes(0xbf, 0xf0, 0x9f), {stream: true}),
				s.decode(bytes(0x98), {stream: true}), s.decode(bytes(0x80, 0x21)), s.decode(bytes(0xef, 0xbb, 0xbf, 0x62))],
				["", "", "", "😀!", "b"]);
			is([s.decode(bytes(0xe2), {stream: true}), s.decode()], ["", "\ufffd"]);
			is([s.decode(bytes(0xff), {stream: true}), s.decode()], ["\ufffd", ""]);
			is(new TextDecoder().decode(new DataView(bytes(1, 0x61, 0x62, 9).buffer, 1, 2)), "ab");
			throws("RangeError", () => new TextDecoder("utf-16le"));
			throws("TypeError", () => d.decode("x"));`,
		"base64": `
			is([btoa(""), btoa("a"), btoa("ab"), btoa("abc"), btoa("\xff\xfe")], ["", "YQ==", "YWI=", "YWJj", "//4="]);
			is([atob(""), atob("YQ=="), atob("YQ"), atob(" Y W I = "), atob("//4=")], ["", "a", "a", "ab", "\xff\xfe"]);
			for (const bad of ["a", "YQ=", "YQ===", "Y@Q=", "=", "YQ==YQ==", "_-8="])
				throws("InvalidCharacterError", () => atob(bad), 5);
			throws("InvalidCharacterError", () => btoa("€"), 5);
			is(atob("ab"), "i", "spare bits are dropped");
			is([btoa(null), btoa(12)], ["bnVsbA==", "MTI="]);`,
		"URL": `
			const u = new URL("https://User:p%40ss@EXAMPLE.com:8080/a/./b/../c%20d?x=1&y=%26#frag");
			is([u.href, u.origin, u.protocol, u.username, u.password, u.host, u.hostname, u.port, u.pathname, u.search, u.hash],
				["https://User:p%40ss@example.com:8080/a/c%20d?x=1&y=%26#frag", "https://example.com:8080", "https:", "User",
				"p%40ss", "example.com:8080", "example.com", "8080", "/a/c%20d", "?x=1&y=%26", "#frag"]);
			// Most are of the table in https://url.spec.whatwg.org/#example-url-parsing.
			for (const [input, base, want] of [
				["https:example.org", undefined, "https://example.org/"],
				["https://////example.com///", undefined, "https://example.com///"],
				["https://example.com/././foo", undefined, "https://example.com/foo"],
				["hello:world", "https://example.com", "hello:world"],
				["https:example.org", "https://example.com", "https://example.com/example.org"],
				["\\example\\..\\demo/.\\", "https://example.com", "https://example.com/demo/"],
				["example", "https://example.com/demo", "https://example.com/example"],
				["file:///C|/demo", undefined, "file:///C:/demo"],
				["..", "file:///C:/demo", "file:///C:/"],
				["file://loc%61lhost/", undefined, "file:///"],
				["https://user:password@example.org/", undefined, "https://user:password@example.org/"],
				["https://example.org/foo bar", undefined, "https://example.org/foo%20bar"],
				["https://EXAMPLE.com/../x", undefined, "https://example.com/x"],
				["https://xn--bcher-kva.example/", undefined, "https://xn--bcher-kva.example/"],
				["https://bücher.example/", undefined, "https://xn--bcher-kva.example/"],
				["http://0x7f.1/", undefined, "http://127.0.0.1/"], ["http://[::1]:80/", undefined, "http://[::1]/"],
			]) is(new URL(input, base).href, want, input);
			for (const bad of ["https://ex ample.org/", "example", "https://example.com:demo", "http://[www.example.com]/", ""])
				is([throws("TypeError", () => new URL(bad)) instanceof TypeError, URL.canParse(bad), URL.parse(bad)],
					[true, false, null]);
			is([URL.canParse("a", "https://b.c"), URL.parse("a", "https://b.c").href], [true, "https://b.c/a"]);
			is([new URL("data:x").origin, new URL("blob:https://a.b/c").origin], ["null", "https://a.b"]);
			const s = new URL("http://a.b/c");
			s.protocol = "https"; s.host = "x.y:81"; s.port = "443"; s.pathname = "p q"; s.search = "k=v"; s.hash = "h";
			s.username = "me"; s.password = "p:w";
			is([s.href, String(s), JSON.stringify({s})], ["https://me:p%3Aw@x.y/p%20q?k=v#h",
				"https://me:p%3Aw@x.y/p%20q?k=v#h", '{"s":"https://me:p%3Aw@x.y/p%20q?k=v#h"}']);
			s.port = "99999"; is(s.port, "", "a port out of range is left");
			const live = s.searchParams;
			live.append("é", "1 2"); is(s.search, "?k=v&%C3%A9=1+2"); s.search = "?z=1"; is([...live], [["z", "1"]]);
			live.delete("z"); is([s.search, s.href], ["", "https://me:p%3Aw@x.y/p%20q#h"]);
			throws("TypeError", () => { s.href = "nope" });
			(() => { "use strict"; throws("TypeError", () => { s.origin = "x" }) })();
			s.href = "ftp://f/?q=2"; is(live.get("q"), "2");`,
		"URLSearchParams": `
			is([...new URLSearchParams("?a=b&a=c&d&=e&&f=%20+%2B%zz")],
				[["a", "b"], ["a", "c"], ["d", ""], ["", "e"], ["f", "  +%zz"]]);
			is(new URLSearchParams({a: 1, b: "x y"}).toString(), "a=1&b=x+y");
			is(new URLSearchParams([["a", 1], ["a", 2]]).toString(), "a=1&a=2");
			is(String(new URLSearchParams(new Map([["~*-._", "é&=%"]]))), "%7E*-._=%C3%A9%26%3D%25");
			is(new URLSearchParams(new URLSearchParams("a=1")).get("a"), "1");
			const p = new URLSearchParams("b=2&a=1&b=3&c=4");
			is([p.size, p.get("b"), p.getAll("b"), p.get("z"), p.has("b", "3"), p.has("b", "4"), p.has("c")],
				[4, "2", ["2", "3"], null, true, false, true]);
			p.set("b", "9"); p.delete("c", "5"); p.append("a", "0"); p.sort(); is(String(p), "a=1&a=0&b=9&c=4");
			p.delete("c"); is([[...p.keys()], [...p.values()]], [["a", "a", "b"], ["1", "0", "9"]]);
			const seen = []; p.forEach((v, k, all) => seen.push(k + v + (all === p)));
			is(seen, ["a1true", "a0true", "b9true"]);
			throws("TypeError", () => new URLSearchParams([["a"]]));
			is([new URLSearchParams("\ud800").toString(), Object.prototype.toString.call(p)],
				["%EF%BF%BD=", "[object URLSearchParams]"]);
			is(new URLSearchParams("a=%ff%e2%82").get("a"), "\ufffd\ufffd");`,
		"AbortController": `
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
				[8, "Error", true]);`,
		"timers": `
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
			is(setTimeout.name, "setTimeout");`,
		"crypto": `
			is([crypto === ctx.crypto, crypto.randomUUID() !== crypto.randomUUID(), Object.keys(crypto)],
				[true, true, ["blake3", "hex", "toU8", "verify", "randomUUID", "getRandomValues"]]);
			const a = new Uint32Array(4), b = new Uint8Array(new ArrayBuffer(8), 2, 4);
			is([crypto.getRandomValues(a) === a, a.some((x) => x !== 0)], [true, true]);
			crypto.getRandomValues(b); const all = new Uint8Array(b.buffer);
			is([all[0], all[1], all[6], all[7]], [0, 0, 0, 0]);
			throws("QuotaExceededError", () => crypto.getRandomValues(new Uint8Array(65537)), 22);
			for (const bad of [[], new Float64Array(1), null, {}]) throws("TypeError", () => crypto.getRandomValues(bad));`,
		"replaced": `
			is(typeof URL, "function"); globalThis.URL = 7; is(URL, 7);
			{ const console = 3; is(console, 3); function atob() { return 8 } is(atob(), 8) }
			is([typeof globalThis["bto" + "a"], eval("typeof struct" + "uredClone")], ["function", "function"]);`,
		"names": `
			is([ctx.find.name, ctx.log.name, console.log.name, new Error("x").stack.includes("github.com")],
				["find", "log", "log", false]);
			let stack; ctx.find({toJSON() { stack = new Error("x").stack; return {} }});
			is([stack.includes("find (native)"), stack.includes("github.com")], [true, false], stack);`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, language := range []string{"javascript", "typescript"} {
				r := run(checks+source+"\nreturn wrong", host(echo), limits(func(l *Limits) { l.Timeout = 5 * time.Second }))
				r.Program.Language = language
				if got := output(t, p, r); got != "[]" {
					t.Errorf("%s: %s", language, got)
				}
			}
		})
	}
}
