// Stands before each of the other files, which are bodies that return what does not hold.
const wrong = [];
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
