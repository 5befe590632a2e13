is(typeof URL, "function"); globalThis.URL = 7; is(URL, 7);
{ const console = 3; is(console, 3); function atob() { return 8 } is(atob(), 8) }
is([typeof globalThis["bto" + "a"], eval("typeof struct" + "uredClone")], ["function", "function"]);

return wrong;
