// URL and URLSearchParams: https://url.spec.whatwg.org. Parsing is native; here are the objects.
(function (native) {
  "use strict";

  let attach; // (params, url's update)
  let refill; // (params, query)

  class URLSearchParams {
    #list = [];
    #update = null;
    constructor(init = "") {
      if (typeof init === "object" && init !== null || typeof init === "function") this.#fill(init);
      else this.#list = native.parseForm(String(init).replace(/^\?/, ""));
    }
    static {
      attach = (params, update) => { params.#update = update; };
      refill = (params, query) => { params.#list = native.parseForm(query.replace(/^\?/, "")); };
    }
    #fill(init) {
      if (init[Symbol.iterator] === undefined || init[Symbol.iterator] === null) {
        for (const key of Object.keys(init)) {
          this.#list.push([native.usv(String(key)), native.usv(String(init[key]))]);
        }
        return;
      }
      for (const pair of init) {
        const entry = Array.from(pair);
        if (entry.length !== 2) throw new TypeError("URLSearchParams needs pairs of name and value");
        this.#list.push([native.usv(String(entry[0])), native.usv(String(entry[1]))]);
      }
    }
    #changed() { if (this.#update !== null) this.#update(this.toString()); }
    get size() { return this.#list.length; }
    append(name, value) {
      this.#list.push([native.usv(String(name)), native.usv(String(value))]);
      this.#changed();
    }
    delete(name, value) {
      this.#list = this.#list.filter(([n, v]) => n !== String(name) || (value !== undefined && v !== String(value)));
      this.#changed();
    }
    get(name) {
      const found = this.#list.find(([n]) => n === String(name));
      return found === undefined ? null : found[1];
    }
    getAll(name) { return this.#list.filter(([n]) => n === String(name)).map(([, v]) => v); }
    has(name, value) {
      return this.#list.some(([n, v]) => n === String(name) && (value === undefined || v === String(value)));
    }
    set(name, value) {
      const first = this.#list.findIndex(([n]) => n === String(name));
      if (first < 0) this.#list.push([native.usv(String(name)), native.usv(String(value))]);
      else {
        this.#list[first] = [this.#list[first][0], native.usv(String(value))];
        this.#list = this.#list.filter(([n], i) => i <= first || n !== String(name));
      }
      this.#changed();
    }
    sort() {
      this.#list.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)); // by code units, stable
      this.#changed();
    }
    forEach(callback, self) {
      for (const [name, value] of this) callback.call(self, value, name, this);
    }
    *entries() {
      for (let i = 0; i < this.#list.length; i++) yield [this.#list[i][0], this.#list[i][1]];
    }
    *keys() { for (const [name] of this.entries()) yield name; }
    *values() { for (const [, value] of this.entries()) yield value; }
    [Symbol.iterator]() { return this.entries(); }
    toString() { return native.formatForm(this.#list); }
    get [Symbol.toStringTag]() { return "URLSearchParams"; }
  }

  const parts = [
    "href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash",
  ];

  class URL {
    #parts;
    #params = null;
    constructor(url, base) {
      if (arguments.length === 0) throw new TypeError("URL needs a text");
      this.#parts = native.parseURL(String(url), base === undefined ? undefined : String(base));
      if (this.#parts === undefined) throw new TypeError(`Invalid URL: ${native.usv(String(url)).slice(0, 200)}`);
    }
    static canParse(url, base) {
      return native.parseURL(String(url), base === undefined ? undefined : String(base)) !== undefined;
    }
    static parse(url, base) {
      try {
        return base === undefined ? new URL(url) : new URL(url, base);
      } catch {
        return null;
      }
    }
    static {
      for (let i = 0; i < parts.length; i++) {
        const property = { enumerable: true, configurable: true, get() { return this.#parts[i]; } };
        if (parts[i] !== "origin") property.set = function (value) { this.#set(parts[i], String(value)); };
        Object.defineProperty(URL.prototype, parts[i], property);
      }
    }
    #set(part, value) {
      const changed = native.setURL(this.#parts[0], part, value);
      if (changed === undefined) {
        if (part === "href") throw new TypeError(`Invalid URL: ${native.usv(value).slice(0, 200)}`);
        return;
      }
      this.#parts = changed;
      if (this.#params !== null && (part === "search" || part === "href")) refill(this.#params, this.search);
    }
    get searchParams() {
      if (this.#params === null) {
        this.#params = new URLSearchParams(this.search);
        attach(this.#params, (query) => { this.#parts = native.setURL(this.#parts[0], "search", query); });
      }
      return this.#params;
    }
    toString() { return this.#parts[0]; }
    toJSON() { return this.#parts[0]; }
    get [Symbol.toStringTag]() { return "URL"; }
  }

  return { URL, URLSearchParams };
})
