const subjects = ["", "a", "foo bar", "Foo1 été_ça", "a\r\nb\n\nc", "x😀y 😀1", "l\u2028m\rn", "aab-abb", "α1٣ Σς", "2024-05"];
const sweep = (pattern) => subjects.map((subject) => {
  const found = [];
  if (pattern.global || pattern.sticky) {
    pattern.lastIndex = 0;
    for (let m; found.length < 9 && (m = pattern.exec(subject));) {
      found.push(m.index, [...m], m.groups ?? 0, pattern.lastIndex);
      if (m[0] === "") pattern.lastIndex++;
    }
    pattern.lastIndex = 0;
  } else {
    const m = pattern.exec(subject);
    found.push(m && [m.index, [...m], m.groups ?? 0]);
  }
  const replaced = subject.replace(pattern, "<$&>");
  pattern.lastIndex = 0;
  const matched = subject.match(pattern);
  pattern.lastIndex = 0;
  const called = subject.replace(pattern, (...given) => JSON.stringify(given));
  return [found, replaced, matched, subject.search(pattern), subject.split(pattern), called];
});
