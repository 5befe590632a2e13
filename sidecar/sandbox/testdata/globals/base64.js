is([btoa(""), btoa("a"), btoa("ab"), btoa("abc"), btoa("\xff\xfe")], ["", "YQ==", "YWI=", "YWJj", "//4="]);
is([atob(""), atob("YQ=="), atob("YQ"), atob(" Y W I = "), atob("//4=")], ["", "a", "a", "ab", "\xff\xfe"]);
for (const bad of ["a", "YQ=", "YQ===", "Y@Q=", "=", "YQ==YQ==", "_-8="])
  throws("InvalidCharacterError", () => atob(bad), 5);
throws("InvalidCharacterError", () => btoa("€"), 5);
is(atob("ab"), "i", "spare bits are dropped");
is([btoa(null), btoa(12)], ["bnVsbA==", "MTI="]);

return wrong;
