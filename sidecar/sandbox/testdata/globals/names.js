is([ctx.find.name, ctx.log.name, console.log.name, new Error("x").stack.includes("github.com")],
  ["find", "log", "log", false]);
let stack; ctx.find({toJSON() { stack = new Error("x").stack; return {} }});
is([stack.includes("find (native)"), stack.includes("github.com")], [true, false], stack);

return wrong;
