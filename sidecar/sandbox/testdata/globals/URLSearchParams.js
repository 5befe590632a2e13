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
is(new URLSearchParams("a=%ff%e2%82").get("a"), "\ufffd\ufffd");

return wrong;
