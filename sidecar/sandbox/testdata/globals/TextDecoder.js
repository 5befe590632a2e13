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
throws("TypeError", () => d.decode("x"));

return wrong;
