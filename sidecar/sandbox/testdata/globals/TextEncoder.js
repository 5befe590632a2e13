const e = new TextEncoder();
is([e.encoding, [...e.encode("é€😀")], [...e.encode()], [...e.encode("\ud800")]],
  ["utf-8", [195, 169, 226, 130, 172, 240, 159, 152, 128], [], [239, 191, 189]]);
const into = new Uint8Array(5);
is([e.encodeInto("a😀b", into), [...into]], [{read: 3, written: 5}, [97, 240, 159, 152, 128]]);
is(e.encodeInto("€€", new Uint8Array(4)), {read: 1, written: 3});
is(e.encode("x") instanceof Uint8Array, true);

return wrong;
