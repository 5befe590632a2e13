// Object.groupBy, Map.groupBy, Promise.withResolvers, Array.fromAsync: https://tc39.es/ecma262.
(function () {
  "use strict";

  // esbuild names it so where the language has none.
  const asyncIterator = Symbol.asyncIterator ?? Symbol.for("Symbol.asyncIterator");

  function group(items, callback, put) {
    if (typeof callback !== "function") throw new TypeError("groupBy needs a function");
    let i = 0;
    for (const item of items) put(callback(item, i++), item);
  }

  const ofObject = {
    groupBy(items, callback) {
      const groups = Object.create(null);
      group(items, callback, (given, item) => {
        const key = typeof given === "symbol" ? given : String(given);
        (groups[key] ??= []).push(item);
      });
      return groups;
    },
  };

  const ofMap = {
    groupBy(items, callback) {
      const groups = new Map();
      group(items, callback, (key, item) => {
        const found = groups.get(key);
        if (found) found.push(item);
        else groups.set(key, [item]);
      });
      return groups;
    },
  };

  const ofPromise = {
    withResolvers() {
      let resolve;
      let reject;
      const promise = new this((yes, no) => {
        resolve = yes;
        reject = no;
      });
      return { promise, resolve, reject };
    },
  };

  const ofArray = {
    async fromAsync(items, map, thisArg) {
      if (map !== undefined && typeof map !== "function") throw new TypeError("fromAsync needs a function");
      const made = [];
      const add = async (item) => {
        made.push(map ? await map.call(thisArg, item, made.length) : item);
      };
      const next = items[asyncIterator]?.();
      if (!next) {
        for (const item of items[Symbol.iterator] ? items : Array.from(items)) await add(await item);
        return made;
      }
      for (let step = await next.next(); !step.done; step = await next.next()) await add(step.value);
      return made;
    },
  };

  return { Object: ofObject, Map: ofMap, Promise: ofPromise, Array: ofArray };
})
