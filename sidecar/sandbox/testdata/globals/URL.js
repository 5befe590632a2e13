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
s.href = "ftp://f/?q=2"; is(live.get("q"), "2");

return wrong;
